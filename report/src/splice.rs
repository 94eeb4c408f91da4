//! Text between two marker lines of a document that people write.

/// `document` with what lies between `<!-- BEGIN: name -->` and `<!-- END: name -->` replaced; None without markers.
pub fn splice(document: &str, name: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- BEGIN: {name} -->");
    let end = format!("<!-- END: {name} -->");
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::splice;

    #[test]
    fn replaces_between_markers_and_again() {
        let document = "a\n<!-- BEGIN: t -->\nold\n<!-- END: t -->\nb\n";
        let once = splice(document, "t", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- BEGIN: t -->\n\nnew\n\n<!-- END: t -->\nb\n");
        assert_eq!(splice(&once, "t", "new").unwrap(), once);
        assert_eq!(splice(document, "u", "new"), None);
        assert_eq!(splice("<!-- END: t --><!-- BEGIN: t -->", "t", "new"), None);
    }
}
