"""Sending mail: the blocking `smtplib`, which is fine in a `SyncCommand`, because that runs in a thread."""

import smtplib
from dataclasses import dataclass
from email.message import EmailMessage

from commandjobs import current_job


@dataclass(frozen=True)
class MailServer:
    host: str
    port: int

    def send(self, subject: str, body: str) -> None:
        message = EmailMessage()
        message["From"] = "monitor@example.com"
        message["To"] = "on-call@example.com"
        message["Subject"] = subject
        message.set_content(body)
        with smtplib.SMTP(self.host, self.port, timeout=10) as smtp:
            smtp.send_message(message)
        current_job().log.info("mailed: %s", subject)
