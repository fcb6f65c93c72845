//! Blender: where it is, and our side of it.
//!
//! Blender is either a Python that has the module `bpy`, or Blender's own executable. The Python files of our side travel
//! in this binary and are unpacked for as long as a run takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

macro_rules! scripts {
    ($($name:literal),+ $(,)?) => { &[$(($name, include_str!(concat!("blender/", $name))),)+] };
}

/// Our Python side: names and texts of the files in `blender/`.
pub const SCRIPTS: &[(&str, &str)] = scripts![
    "camera.py",
    "cloth.py",
    "configuration.py",
    "contact.py",
    "defects.py",
    "environment.py",
    "fluid.py",
    "fluid_solver.py",
    "item.py",
    "light.py",
    "materials.py",
    "motion.py",
    "people.py",
    "people_armature.py",
    "people_body.py",
    "people_clothes.py",
    "people_ground.py",
    "people_hair.py",
    "people_looks.py",
    "people_material.py",
    "people_mesh.py",
    "people_rig.py",
    "physics.py",
    "pictures.py",
    "placement.py",
    "render.py",
    "scene.py",
    "shapes.py",
    "truth.py",
    "worker.py",
];

/// What `make blender` sets up, below the working directory or beside the program.
const INSTALLED: &str = ".deps/blender";

/// A Blender that can be started.
#[derive(Debug, Clone)]
pub struct Blender {
    program: PathBuf,
    is_python: bool,
    /// Panoramas, people and motion capture.
    assets: Option<PathBuf>,
}

impl Blender {
    /// The Blender that is asked for, or the one that is found.
    pub fn find(asked: Option<&str>) -> Result<Self> {
        let from_environment = std::env::var("SIMDROP_BLENDER").ok().filter(|path| !path.is_empty());
        let program = match asked.map(str::to_owned).or(from_environment) {
            Some(path) => on_path(&path).ok_or_else(|| Error::config(format!("there is no Blender at {path}")))?,
            None => installed("venv/bin/python").or_else(|| on_path("blender")).ok_or_else(|| {
                Error::config(
                    "Blender is not there; run `make blender`, or give your own (4.2 or newer) as run.blender, --blender or \
                     SIMDROP_BLENDER",
                )
            })?,
        };
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let assets = std::env::var_os("SIMDROP_BLENDER_ASSETS").map(PathBuf::from).or_else(|| installed("assets"));
        Ok(Self { is_python: name.starts_with("python"), program, assets })
    }

    /// The call that starts a worker with the scripts in `folder`.
    pub(super) fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let script = folder.join("worker.py");
        if self.is_python {
            command.arg("-u").arg(script);
        } else {
            let quiet: [OsString; 4] = ["-b".into(), "--factory-startup".into(), "-P".into(), script.into()];
            command.args(quiet);
        }
        command
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Panoramas, people and motion capture, where they are.
    pub fn assets(&self) -> Option<&Path> {
        self.assets.as_deref()
    }
}

/// A file that `make blender` made.
fn installed(relative: &str) -> Option<PathBuf> {
    let working = std::env::current_dir().ok()?;
    let program = std::env::current_exe().ok()?;
    let bases = std::iter::once(working.as_path()).chain(program.ancestors().skip(1).take(3));
    // Not resolved: a link to Python's executable has to be called by its own name to find its packages.
    bases.map(|base| base.join(INSTALLED).join(relative)).find(|path| path.exists())
}

/// A program by its path, or by its name on the search path.
fn on_path(name: &str) -> Option<PathBuf> {
    let plain = Path::new(name);
    if plain.components().count() > 1 {
        return plain.exists().then(|| std::path::absolute(plain).unwrap_or_else(|_| plain.to_owned()));
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Writes our Python side into `folder`.
pub(super) fn unpack(folder: &Path) -> Result<()> {
    for (name, text) in SCRIPTS {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}
