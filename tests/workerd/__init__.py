"""What happens on Cloudflare Workers, in real workerd: ``python -m tests.workerd``."""
