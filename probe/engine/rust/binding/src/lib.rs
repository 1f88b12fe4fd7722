//! The Python face of the engine: types are in `probe/engine/_native.pyi`.
