//! `image ls`, and what `image rm` and `image prune` freed.

use super::short;
use super::table::table;
use super::time::age_of;
use crate::api::images::form::{FreedBody, ImageView};
use crate::manifest::quantity::show_size;

/// A line per image.
pub fn images(views: &[ImageView], wide: bool, now: u64) -> String {
    if views.is_empty() {
        return "No node holds an image. Try: shoal image push NAME\n".into();
    }
    let list = |all: &[String]| match all {
        [] => "-".to_owned(),
        all => all.join(","),
    };
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let mut row = vec![
                view.name.clone(),
                if wide { view.id.clone() } else { short(&view.id) },
                show_size(view.size),
                list(&view.platforms),
                list(&view.held_by),
                list(&view.used_by),
            ];
            if wide {
                row.push(if view.pushed { "yes" } else { "no" }.into());
                row.push(if view.at_ms == 0 { "-".into() } else { age_of(view.at_ms, now) });
            }
            row
        })
        .collect();
    let mut heads = vec!["NAME", "ID", ">SIZE", "PLATFORMS", "HELD BY", "USED BY"];
    if wide {
        heads.extend(["PUSHED", "AGE"]);
    }
    table(&heads, &rows)
}

/// A line per node, and the sum. `done` is `removed` or `would remove`.
pub fn freed(all: &[FreedBody], done: &str) -> String {
    if all.is_empty() {
        return "there is nothing to remove\n".into();
    }
    let mut text = String::new();
    for FreedBody { node, images, parts, bytes, engine_images, engine_bytes } in all {
        let mut what = vec![format!("{parts} parts ({})", show_size(*bytes))];
        if !images.is_empty() {
            what.insert(0, images.join(", "));
        }
        if *engine_images > 0 {
            what.push(format!("{engine_images} engine images ({})", show_size(*engine_bytes)));
        }
        text.push_str(&format!("{node}: {done} {}\n", what.join(", ")));
    }
    let bytes: u64 = all.iter().map(|freed| freed.bytes + freed.engine_bytes).sum();
    text.push_str(&format!("in all {}\n", show_size(bytes)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_listed_with_its_nodes_and_workloads() {
        let view = ImageView {
            name: "shop/till:3".into(),
            id: "ab".repeat(32),
            platforms: vec!["x86_64".into()],
            size: 12 << 20,
            pushed: true,
            at_ms: 0,
            held_by: vec!["n1".into(), "n2".into()],
            used_by: Vec::new(),
        };
        let text = images(&[view], false, 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME         ID          SIZE  PLATFORMS  HELD BY  USED BY");
        assert_eq!(lines[1], "shop/till:3  abababab  12 MiB  x86_64     n1,n2    -");
        assert!(images(&[], false, 0).contains("shoal image push"));
    }

    #[test]
    fn freed_bytes_are_summed_over_nodes() {
        let node = |node: &str, bytes| FreedBody {
            node: node.into(),
            images: vec!["till:3".into()],
            parts: 2,
            bytes,
            engine_images: 1,
            engine_bytes: 1 << 20,
        };
        let text = freed(&[node("n1", 3 << 20), node("n2", 5 << 20)], "would remove");
        assert_eq!(
            text,
            "n1: would remove till:3, 2 parts (3 MiB), 1 engine images (1 MiB)\n\
             n2: would remove till:3, 2 parts (5 MiB), 1 engine images (1 MiB)\n\
             in all 10 MiB\n"
        );
        assert_eq!(freed(&[], "removed"), "there is nothing to remove\n");
    }
}
