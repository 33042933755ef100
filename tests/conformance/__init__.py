"""What is promised on every loop: run natively on each, and inside Pyodide."""
