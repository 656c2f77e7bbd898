/** The worker of discard.ts: one range at a time. */
import { punchHole } from "./libc.ts";

export interface DiscardRequest {
  readonly id: number;
  readonly fd: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface DiscardAnswer {
  readonly id: number;
  readonly isDone: boolean;
}

declare const self: Worker;

self.onmessage = (event: MessageEvent<DiscardRequest>) => {
  const { id, fd, offsetBytes, lengthBytes } = event.data;
  const answer: DiscardAnswer = { id, isDone: punchHole(fd, offsetBytes, lengthBytes) };
  postMessage(answer);
};
