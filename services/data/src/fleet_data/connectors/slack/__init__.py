"""Slack: messages, posted."""
