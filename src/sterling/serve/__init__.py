"""What a person or a client is shown. Views are pure: facts in, view out."""
