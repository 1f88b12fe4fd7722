//! The Python face of the engine; its types are in `probe/engine/_native.pyi`.

mod confine;
mod engine;
mod load;
mod maps;
mod shared;
mod worker;

use std::collections::BTreeMap;
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

/// Leaves the calling thread, and those it starts later, without any capability.
#[pyfunction]
fn drop_capabilities() -> PyResult<()> {
    Ok(confine::drop_capabilities(false)?)
}

/// Goes on as another user, with CAP_NET_RAW alone; for root, before there are other threads.
#[pyfunction]
fn become_user(name: &str, uid: u32, gid: u32) -> PyResult<()> {
    Ok(confine::become_user(name, uid, gid)?)
}

/// Filters the system calls of all threads, now and later: what the probe never does fails with EPERM.
#[pyfunction]
#[pyo3(signature = (*, packet_sockets = false))]
fn filter_system_calls(packet_sockets: bool) -> PyResult<()> {
    confine::filter_system_calls(packet_sockets).map_err(EngineError::new_err)
}

/// About how many bytes an entry of each limited table takes, by the limit's name.
#[pyfunction]
fn table_bytes() -> BTreeMap<&'static str, usize> {
    edgeqoe_core::engine::table_bytes().into_iter().collect()
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add("EngineError", module.py().get_type::<EngineError>())?;
    module.add_function(wrap_pyfunction!(forbid_dumps, module)?)?;
    module.add_function(wrap_pyfunction!(table_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(drop_capabilities, module)?)?;
    module.add_function(wrap_pyfunction!(become_user, module)?)?;
    module.add_function(wrap_pyfunction!(filter_system_calls, module)?)?;
    module.add_function(wrap_pyfunction!(capture_span, module)?)?;
    module.add_function(wrap_pyfunction!(schema, module)?)
}
