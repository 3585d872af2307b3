"""The control plane without processes: translation, state, pushing, injection, webhooks, the agent."""
