/**
 * Whose a caller of a peer array is: of the half that has its group. A group that no half has is a new golden copy, for one half by its
 * name, so that the two appliances never make it twice.
 */
import type { FrameCodec } from "../codec/frame_parser.ts";
import { FrameParser } from "../codec/frame_parser.ts";
import type { Frame, Hello } from "../peer/frame.ts";
import { peerCodec } from "../peer/link.ts";
import { type HalfNumber, halfNumbers } from "./limits.ts";
import type { Choice, LaneRule } from "./shared_nic.ts";

/** One for each half. */
export type KnownGroups = readonly {
  readonly half: number;
  /** Served by this appliance. */
  readonly isHere: boolean;
  /** False: it is not known what it has. */
  readonly isKnown: boolean;
  readonly has: (groupId: string) => boolean;
}[];

const noMark = new Uint8Array(0);

export function lanesByGroup(known: () => KnownGroups): LaneRule {
  return {
    markOf: () => noMark,
    choose: (bytes) => {
      const hello = helloIn(bytes, peerCodec);
      if (hello === "more" || hello === "none") return hello === "more" ? { kind: "more" } : lane(0);
      const groups = known();
      const id = hello.groupId;
      const newHalf = groups.every(({ isKnown }) => isKnown) ? groups[halfOfCopy(hello.groupName)] : undefined;
      const half = groups.find(({ has }) => has(id)) ?? newHalf;
      return half?.isHere === true ? lane(half.half) : { kind: "nobody", answer: elsewhere(hello) };
    },
  };
}

/** Which half a new golden copy goes to. */
export function halfOfCopy(groupName: string): HalfNumber {
  let sum = 0;
  for (let index = 0; index < groupName.length; index++) sum += groupName.charCodeAt(index);
  return halfNumbers[sum % halfNumbers.length]!;
}

function lane(half: number): Choice {
  return { kind: "lane", lane: half, skipBytes: 0 };
}

/** Not an answer about the group: the caller tries the array's other addresses. */
function elsewhere({ groupName }: Hello): Uint8Array {
  return peerCodec.encode(
    { kind: "refuse", code: "busy", text: `${groupName} is not served by this appliance now` },
    0,
  );
}

/** `none`: something else has come first; whoever gets the stream says so. */
function helloIn(bytes: Uint8Array, codec: FrameCodec<Frame>): Hello | "more" | "none" {
  let found: Hello | "more" | "none" = "more";
  const parser = new FrameParser(codec, {
    onFrame: (frame) => {
      if (found === "more") found = frame.kind === "hello" ? frame : "none";
    },
    onMalformed: () => {
      found = "none";
    },
  });
  parser.feed(bytes.slice());
  return found;
}
