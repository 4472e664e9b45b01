"""Motion in, corpus out: the `Motion` value, readers, generator, quality, clusters, segments, splits and arms."""
