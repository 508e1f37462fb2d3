"""What comes in becomes ticks, frames and contexts, once each."""
