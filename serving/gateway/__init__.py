"""HTTP gateway: validates requests, enforces the deadline, logs every decision."""
