"""The control plane: reads Istio's resources from the Kubernetes API, writes Envoy's configuration."""
