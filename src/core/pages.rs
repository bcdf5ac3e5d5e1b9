//! Pages that a program serves to people, beside its API.

/// The files below one path.
///
/// `index.html` is the page itself, at `/<path>`; all else stands below it. Pages run under a policy that
/// lets them load scripts and styles from their own host alone, and nothing inline. They may be served
/// below another path by a proxy, so their links are relative.
#[derive(Debug, Clone, Copy)]
pub struct Pages {
    /// The first segment of the path: `[a-z][a-z0-9-]*`.
    pub path: &'static str,
    /// The name that people read where there is a link to it.
    pub title: &'static str,
    /// The files, each name once.
    pub files: &'static [PageFile],
}

/// One file of [`Pages`].
#[derive(Debug, Clone, Copy)]
pub struct PageFile {
    /// The name, with an ending that says what it is: `html`, `js`, `css`, `svg`, `png` or `txt`.
    pub name: &'static str,
    /// Its bytes.
    pub body: &'static [u8],
}

impl PageFile {
    /// A file of this name.
    #[must_use]
    pub const fn new(name: &'static str, body: &'static [u8]) -> Self {
        Self { name, body }
    }
}

impl Pages {
    /// Returns whether there is a page at the path itself.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.files.iter().any(|file| file.name == "index.html")
    }
}
