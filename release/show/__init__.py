"""What a person sees on the screen."""
