"""What each verb does: read, work, write."""
