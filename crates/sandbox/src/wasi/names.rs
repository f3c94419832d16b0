//! The functions of WASI preview 1 with their types, and its error numbers.

use wasmparser::ValType::{self, I32, I64};

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

// Error numbers of preview 1.
pub(super) const SUCCESS: i32 = 0;
pub(super) const BADF: i32 = 8;
pub(super) const EXIST: i32 = 20;
pub(super) const FAULT: i32 = 21;
pub(super) const INVAL: i32 = 28;
pub(super) const ISDIR: i32 = 31;
pub(super) const MFILE: i32 = 33;
pub(super) const NAMETOOLONG: i32 = 37;
pub(super) const NOENT: i32 = 44;
pub(super) const NOTDIR: i32 = 54;
pub(super) const NOTSUP: i32 = 58;
pub(super) const ROFS: i32 = 69;
pub(super) const SPIPE: i32 = 70;
pub(super) const NOTCAPABLE: i32 = 76;

pub(super) type Signature = (&'static [ValType], &'static [ValType]);

/// Functions that always answer with one error number.
pub(super) const REFUSED: &[(&str, Signature, i32)] = &[
    ("fd_allocate", (&[I32, I64, I64], &[I32]), NOTSUP),
    ("fd_datasync", (&[I32], &[I32]), NOTSUP),
    ("fd_fdstat_set_rights", (&[I32, I64, I64], &[I32]), NOTSUP),
    ("fd_filestat_set_size", (&[I32, I64], &[I32]), ROFS),
    ("fd_filestat_set_times", (&[I32, I64, I64, I32], &[I32]), ROFS),
    ("fd_pwrite", (&[I32, I32, I32, I64, I32], &[I32]), ROFS),
    ("fd_sync", (&[I32], &[I32]), NOTSUP),
    ("path_create_directory", (&[I32, I32, I32], &[I32]), ROFS),
    ("path_filestat_set_times", (&[I32, I32, I32, I32, I64, I64, I32], &[I32]), ROFS),
    ("path_link", (&[I32, I32, I32, I32, I32, I32, I32], &[I32]), ROFS),
    ("path_readlink", (&[I32, I32, I32, I32, I32, I32], &[I32]), INVAL),
    ("path_remove_directory", (&[I32, I32, I32], &[I32]), ROFS),
    ("path_rename", (&[I32, I32, I32, I32, I32, I32], &[I32]), ROFS),
    ("path_symlink", (&[I32, I32, I32, I32, I32], &[I32]), ROFS),
    ("path_unlink_file", (&[I32, I32, I32], &[I32]), ROFS),
    ("proc_raise", (&[I32], &[I32]), NOTSUP),
    ("sock_accept", (&[I32, I32, I32], &[I32]), BADF),
    ("sock_recv", (&[I32, I32, I32, I32, I32, I32], &[I32]), BADF),
    ("sock_send", (&[I32, I32, I32, I32, I32], &[I32]), BADF),
    ("sock_shutdown", (&[I32, I32], &[I32]), BADF),
];

/// Functions that do something.
pub(super) const OFFERED: &[(&str, Signature)] = &[
    ("args_get", (&[I32, I32], &[I32])),
    ("args_sizes_get", (&[I32, I32], &[I32])),
    ("clock_res_get", (&[I32, I32], &[I32])),
    ("clock_time_get", (&[I32, I64, I32], &[I32])),
    ("environ_get", (&[I32, I32], &[I32])),
    ("environ_sizes_get", (&[I32, I32], &[I32])),
    ("fd_advise", (&[I32, I64, I64, I32], &[I32])),
    ("fd_close", (&[I32], &[I32])),
    ("fd_fdstat_get", (&[I32, I32], &[I32])),
    ("fd_fdstat_set_flags", (&[I32, I32], &[I32])),
    ("fd_filestat_get", (&[I32, I32], &[I32])),
    ("fd_pread", (&[I32, I32, I32, I64, I32], &[I32])),
    ("fd_prestat_dir_name", (&[I32, I32, I32], &[I32])),
    ("fd_prestat_get", (&[I32, I32], &[I32])),
    ("fd_read", (&[I32, I32, I32, I32], &[I32])),
    ("fd_readdir", (&[I32, I32, I32, I64, I32], &[I32])),
    ("fd_renumber", (&[I32, I32], &[I32])),
    ("fd_seek", (&[I32, I64, I32, I32], &[I32])),
    ("fd_tell", (&[I32, I32], &[I32])),
    ("fd_write", (&[I32, I32, I32, I32], &[I32])),
    ("path_filestat_get", (&[I32, I32, I32, I32, I32], &[I32])),
    ("path_open", (&[I32, I32, I32, I32, I32, I64, I64, I32, I32], &[I32])),
    ("poll_oneoff", (&[I32, I32, I32, I32], &[I32])),
    ("proc_exit", (&[I32], &[])),
    ("random_get", (&[I32, I32], &[I32])),
    ("sched_yield", (&[], &[I32])),
];

/// The type of a function that programs may import, or nothing if there is none of that name.
pub(crate) fn signature(module: &str, name: &str) -> Option<Signature> {
    let refused = REFUSED.iter().map(|(found, signature, _)| (*found, *signature));
    OFFERED
        .iter()
        .copied()
        .chain(refused)
        .find(|(found, _)| module == MODULE && *found == name)
        .map(|(_, signature)| signature)
}
