//! Writes what leaves into a capture.

use std::io::{self, Write};

use vswitch_nat::Zone;

use super::{
    Step,
    capture::{InterfaceId, LinkType, Writer},
    config::Config,
};

/// A capture with an Ethernet interface for each side, named for it.
#[derive(Debug)]
pub struct Recorder<W> {
    writer: Writer<W>,
    interfaces: Vec<(Zone, InterfaceId)>,
}

impl<W: Write> Recorder<W> {
    /// Begins a capture.
    ///
    /// # Errors
    ///
    /// Those of `sink`.
    pub fn new(sink: W, config: &Config) -> io::Result<Self> {
        let mut writer = Writer::new(sink)?;
        let interfaces = config.sides.iter();
        let interfaces = interfaces.map(|side| {
            let interface = writer.add_interface(&side.name, LinkType::ETHERNET)?;
            Ok((side.zone, interface))
        });
        let interfaces = interfaces.collect::<io::Result<_>>()?;
        Ok(Self { writer, interfaces })
    }

    /// Writes what left because of a packet, with its time.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn record(&mut self, step: &Step<'_>) -> io::Result<()> {
        for emitted in &step.emitted {
            let interface = self.interfaces.iter().find(|(zone, _)| *zone == emitted.zone);
            let Some(&(_, interface)) = interface else {
                // The engine knows no other zones.
                continue;
            };
            self.writer
                .write(interface, step.time, [&emitted.header, &emitted.packet])?;
        }
        Ok(())
    }

    /// Hands over what was held back.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn finish(self) -> io::Result<W> {
        self.writer.finish()
    }
}
