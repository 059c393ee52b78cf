"""Where pixels come from: image files, packs, streams, the device."""
