"""Which of a service's endpoints a request goes to."""
