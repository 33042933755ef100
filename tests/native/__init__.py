"""What one loop or plain threads alone can show."""
