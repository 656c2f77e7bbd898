/** The worker of scsi_port.ts: one command at a time, however long the device lets it wait. */
import { executeScsi, type ScsiCommand, type ScsiOutcome } from "./scsi_generic.ts";

export interface ScsiRequest extends ScsiCommand {
  readonly fd: number;
}

declare const self: Worker;

self.onmessage = (event: MessageEvent<ScsiRequest>) => {
  const { fd, ...command } = event.data;
  const answer: ScsiOutcome = executeScsi(fd, command);
  postMessage(answer);
};
