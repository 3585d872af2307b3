"""Asks the running cluster and its proxies, the same way on every cluster. Changes nothing and judges nothing."""
