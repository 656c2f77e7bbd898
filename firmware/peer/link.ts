/** One connection to a peer array: `codec/frame_link.ts` in the language of the peers. */
import type { ByteStream } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import { FrameLink } from "../codec/frame_link.ts";
import type { FrameCodec } from "../codec/frame_parser.ts";
import { type Frame, mayCarryPayload } from "./frame.ts";
import { decodeFrame } from "./frame_decode.ts";
import { encodeFrame } from "./frame_encode.ts";
import { linkLimits, type ReplicationSettings } from "./limits.ts";

export const peerCodec: FrameCodec<Frame> = {
  headerBytesMax: linkLimits.headerBytesMax,
  payloadBytesMax: linkLimits.payloadBytesMax,
  encode: encodeFrame,
  decode: decodeFrame,
  mayCarryPayload: (frame) => mayCarryPayload(frame.kind),
  // Records lie in the log until they are at home.
  lendsPayload: () => false,
};

export class Link extends FrameLink<Frame> {
  constructor(stream: ByteStream, dialled: boolean, clock: Clock, settings: ReplicationSettings) {
    super(stream, dialled, clock, settings, peerCodec);
  }
}
