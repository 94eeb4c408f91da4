//! Rows to markdown and HTML.
