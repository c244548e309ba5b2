"""What this package is compared with: the published formulations, in our words."""
