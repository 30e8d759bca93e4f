//! As much of an FTP server as a client needs to fetch a file in passive mode (RFC 959, RFC 2428).

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
};

use super::{say, streams::PAGE};

/// Serves one control connection; any file is [`PAGE`]. Says where the data connection came from.
pub(super) fn serve(mut control: TcpStream) -> io::Result<String> {
    let own = control.local_addr()?.ip().to_canonical();
    let mut lines = BufReader::new(control.try_clone()?).lines();
    let mut passive = None;
    control.write_all(b"220 ready\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let command = line.split(' ').next().unwrap_or_default().to_uppercase();
        let answer = match command.as_str() {
            "CWD" => "250 done".to_owned(),
            "EPSV" => {
                let port = listen(own, &mut passive)?;
                format!("229 Entering Extended Passive Mode (|||{port}|)")
            }
            "PASV" => {
                let IpAddr::V4(own) = own else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let [a, b, c, d] = own.octets();
                let [high, low] = listen(own.into(), &mut passive)?.to_be_bytes();
                format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})")
            }
            "PASS" => "230 welcome".to_owned(),
            "PWD" => "257 \"/\"".to_owned(),
            "QUIT" => {
                control.write_all(b"221 bye\r\n")?;
                break;
            }
            "RETR" => {
                let Some(listener) = passive.take() else {
                    return Err(io::ErrorKind::NotConnected.into());
                };
                control.write_all(b"150 coming\r\n")?;
                let (mut data, peer): (TcpStream, SocketAddr) = TcpListener::accept(&listener)?;
                say(format_args!("data from {}", peer.ip().to_canonical()));
                data.write_all(PAGE.as_bytes())?;
                "226 done".to_owned()
            }
            "SIZE" => format!("213 {}", PAGE.len()),
            "TYPE" => "200 done".to_owned(),
            "USER" => "331 password".to_owned(),
            _ => "502 unknown".to_owned(),
        };
        write!(control, "{answer}\r\n")?;
    }
    Ok("fetched".to_owned())
}

fn listen(own: IpAddr, passive: &mut Option<TcpListener>) -> io::Result<u16> {
    let listener = TcpListener::bind((own, 0))?;
    let port = listener.local_addr()?.port();
    *passive = Some(listener);
    Ok(port)
}
