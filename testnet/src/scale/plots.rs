//! Plots of quantities over the size of the cluster, and of repair over the size of the difference.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::measure::Figures;
use super::quantities::value;

/// A plot: its file, its title, the label of its axis, and its curves.
struct Plot {
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    curves: &'static [(&'static str, &'static str)],
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "traffic.svg",
        title: "Bytes that a node sends a second",
        axis: "B/s",
        curves: &[
            ("rest_bytes", "at rest"),
            ("rest_busiest", "at rest, the busiest"),
            ("churn_bytes", "a node goes and returns every 2 s"),
        ],
    },
    Plot {
        file: "messages.svg",
        title: "Messages that a node sends a second",
        axis: "messages/s",
        curves: &[
            ("rest_messages", "at rest"),
            ("churn_messages", "a node goes and returns every 2 s"),
        ],
    },
    Plot {
        file: "spread.svg",
        title: "A change gets round, in a wired local network",
        axis: "ms",
        curves: &[("news_50", "half of the nodes"), ("news_99", "99 of 100"), ("news_100", "all")],
    },
    Plot {
        file: "hops.svg",
        title: "Hops of a change",
        axis: "hops",
        curves: &[("hops_50", "half of the nodes"), ("hops_99", "99 of 100"), ("hops_100", "all")],
    },
    Plot {
        file: "failover.svg",
        title: "A node is lost",
        axis: "ms",
        curves: &[
            ("kill_known", "daemon killed: 99 of 100 know"),
            ("kill_failover", "daemon killed: healthy elsewhere"),
            ("cut_known", "unplugged: 99 of 100 know"),
            ("cut_failover", "unplugged: healthy elsewhere"),
        ],
    },
    Plot {
        file: "placement.svg",
        title: "Messages of an auction, a placement",
        axis: "messages",
        curves: &[("placement_messages", "messages")],
    },
    Plot {
        file: "ring.svg",
        title: "The ring",
        axis: "of the average",
        curves: &[
            ("balance", "keys of the busiest owner"),
            ("keys_moved", "keys moved when a node goes"),
        ],
    },
    Plot {
        file: "memory.svg",
        title: "Memory of a node's core",
        axis: "KiB",
        curves: &[("memory_alone", "on a device"), ("memory_shared", "in the simulator")],
    },
];

const REPAIR: Plot = Plot {
    file: "repair.svg",
    title: "Bytes of repair for each byte that was lacking",
    axis: "bytes",
    curves: &[("repair", "of 10,000 entries")],
};

/// Draws all plots into a folder.
pub fn draw(folder: &Path, all: &[(usize, Figures)], differences: &[(usize, f64)]) -> Result<()> {
    let repair: Vec<(usize, Figures)> =
        differences.iter().map(|(news, ratio)| (*news, vec![("repair", *ratio)])).collect();
    PLOTS.iter().try_for_each(|plot| plot.draw(folder, all, "nodes"))?;
    REPAIR.draw(folder, &repair, "entries that differ")
}

impl Plot {
    fn draw(&self, folder: &Path, all: &[(usize, Figures)], across: &str) -> Result<()> {
        self.paint(folder, all, across).map_err(|why| anyhow!("{}: {why}", self.file))
    }

    fn paint(
        &self,
        folder: &Path,
        all: &[(usize, Figures)],
        across: &str,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let curve = |name: &str| -> Vec<(f64, f64)> {
            all.iter()
                .filter_map(|(nodes, figures)| Some((*nodes as f64, value(figures, name)?)))
                .collect()
        };
        let curves: Vec<(&str, Vec<(f64, f64)>)> = self
            .curves
            .iter()
            .map(|(name, title)| (*title, curve(name)))
            .filter(|(_, it)| !it.is_empty())
            .collect();
        let values = || {
            curves
                .iter()
                .flat_map(|(_, points)| points)
                .map(|(_, value)| *value)
                .filter(|it| *it > 0.0)
        };
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        let sizes = all.iter().map(|(nodes, _)| *nodes as f64);
        let (small, large) = (sizes.clone().fold(f64::MAX, f64::min), sizes.fold(1.0, f64::max));
        if most == 0.0 || small >= large {
            return Ok(());
        }
        let path = folder.join(self.file);
        let area = SVGBackend::new(&path, (720, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (small..large * 1.1).log_scale(),
                (least / 2.0..most * 2.0).log_scale(),
            )?;
        chart.configure_mesh().x_desc(across).y_desc(self.axis).light_line_style(WHITE).draw()?;
        for (number, (title, points)) in curves.into_iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            chart
                .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
                .label(title)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
                });
            chart.draw_series(
                points.into_iter().map(|point| Circle::new(point, 3, color.filled())),
            )?;
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
        Ok(())
    }
}
