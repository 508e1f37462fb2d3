"""The demo's scenes: one file a pack, each of which runs real commands and checks what they say."""
