"""What one transaction can read, a module for each noun; `Snapshot` is all of them."""
