"""Data to look at: tables, manifests, the encryption map. Draws what it is handed; asks no cluster, has no widgets."""
