//! The Python face of the engine; its types are in `probe/engine/_native.pyi`.

mod engine;
mod maps;
mod shared;
mod worker;

use std::path::PathBuf;

use edgeqoe_core::memory::Wiping;
use edgeqoe_core::record::SCHEMA;
use edgeqoe_core::source;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

/// Packets and identities do not outlive their owner.
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

create_exception!(
    _native,
    EngineError,
    PyException,
    "The engine cannot start, or its source cannot be read (on): one line for a person."
);

/// Returns (first ns, last ns, packets) of capture files, by a walk over their headers.
#[pyfunction]
fn capture_span(py: Python<'_>, paths: Vec<PathBuf>) -> PyResult<(u64, u64, u64)> {
    py.detach(|| source::capture_span(&paths))
        .map_err(|error| EngineError::new_err(error.to_string()))
}

/// Returns (name, wire type, nullable) of every column that the engine writes, in order.
#[pyfunction]
fn schema() -> Vec<(&'static str, &'static str, bool)> {
    SCHEMA
        .iter()
        .map(|&(name, wire, nullable)| (name, wire.as_str(), nullable))
        .collect()
}

/// No core file of this process from now on, and no reading of its memory by its own user.
#[pyfunction]
fn forbid_dumps() -> PyResult<()> {
    Ok(edgeqoe_core::memory::forbid_dumps()?)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add("EngineError", module.py().get_type::<EngineError>())?;
    module.add_function(wrap_pyfunction!(forbid_dumps, module)?)?;
    module.add_function(wrap_pyfunction!(capture_span, module)?)?;
    module.add_function(wrap_pyfunction!(schema, module)?)
}
