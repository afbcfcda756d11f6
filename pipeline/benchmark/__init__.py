"""How well lifting works, measured beside what it has to beat: `lift3d benchmark`."""
