/** Frames between partners to bytes and back. What arrives is judged field by field; what is wrong with it is a value. */
import protobuf from "protobufjs/minimal.js";
import { goldcopy } from "../../proto/generated/pair.js";
import { assert } from "../codec/assert.ts";
import { fromHex } from "../codec/bytes.ts";
import { type FrameCodec, framed } from "../codec/frame_parser.ts";
import { HeaderCheck, type Wide } from "../codec/header_check.ts";
import {
  lendsPayload,
  mayCarryPayload,
  type PairFrame,
  type PairHello,
  type PairHost,
  type PairMessage,
  pairCopies,
  pairMagic,
  pairRoles,
} from "./frame.ts";
import { pairLimits } from "./limits.ts";

const { Frame } = goldcopy.pair;
const writer = protobuf.Writer.create();
const noBytes = new Uint8Array(0);

export const pairCodec: FrameCodec<PairFrame> = {
  headerBytesMax: pairLimits.headerBytesMax,
  payloadBytesMax: pairLimits.payloadBytesMax,
  encode,
  decode,
  mayCarryPayload,
  lendsPayload,
};

function encode(frame: PairFrame, payloadBytes: number): Uint8Array {
  assert(payloadBytes === 0 || mayCarryPayload(frame), `a ${frame.kind} frame has no payload`);
  assert(payloadBytes <= pairLimits.payloadBytesMax, "a frame's payload is bounded");
  writer.reset();
  const header = Frame.encode(toMessage(frame), writer).finish(true);
  assert(header.byteLength <= pairLimits.headerBytesMax, "a frame's header is bounded");
  return framed(header, payloadBytes);
}

function toMessage(frame: PairFrame): goldcopy.pair.IFrame {
  switch (frame.kind) {
    case "hello":
      return { hello: helloMessage(frame) };
    case "refuse":
      return { refuse: { text: clip(frame.text) } };
    case "beat":
      return { received: frame.received, beat: {} };
    case "message":
      return { ...bodyOf(frame.message), number: frame.number, received: frame.received };
  }
}

function helloMessage(hello: PairHello): goldcopy.pair.IHello {
  return {
    magic: pairMagic,
    version: hello.version,
    versionMin: hello.versionMin,
    array: hello.array,
    appliance: hello.appliance,
    session: fromHex(hello.session),
    theirs: optionalId(hello.theirs),
    portals: hello.portals.slice(0, pairLimits.portalsMax).map((portal) => ({ ...portal })),
    cacheBytes: hello.cacheBytes,
    domain: hello.domain === "battery" ? 1 : 2,
  };
}

function bodyOf(message: PairMessage): goldcopy.pair.IFrame {
  switch (message.kind) {
    case "state":
      return {
        state: {
          role: pairRoles[message.role],
          nonce: optionalId(message.nonce),
          batteryGood: message.batteryGood,
          text: clip(message.text),
          preferred: message.preferred,
          copy: pairCopies[message.copy],
          serving: message.serving.map(fromHex),
          emptySlots: message.emptySlots.map(clip),
        },
      };
    case "attach":
      return { attach: { nonce: optionalId(message.nonce) } };
    case "attached":
      return { attached: { refusal: clip(message.refusal) } };
    case "mirror": {
      const { frame, offsets, lengths } = message;
      return { mirror: { frame, offsets: offsets as number[], lengths: lengths as number[] } };
    }
    case "differs":
      return { differs: { offset: message.offset, pages: message.pages as number[] } };
    case "mirrorFailed":
      return { mirrorFailed: { text: clip(message.text) } };
    case "openNexus":
      return { openNexus: { ...message, initiatorPort: clip(message.initiatorPort), host: { ...message.host } } };
    case "openVolume":
      return { openVolume: { ...message, host: { ...message.host } } };
    default:
      return { [message.kind]: message };
  }
}

function decode(
  header: Uint8Array,
): { readonly kind: "frame"; readonly frame: PairFrame } | { readonly kind: "malformed"; readonly text: string } {
  let message: goldcopy.pair.Frame;
  try {
    const reader = protobuf.Reader.create(header);
    reader.discardUnknown = true;
    message = Frame.decode(reader);
  } catch {
    return { kind: "malformed", text: "the header is not a protobuf message" };
  }
  const check = new HeaderCheck(pairLimits);
  const frame = toFrame(message, check);
  if (frame === null) return { kind: "malformed", text: "the header is of no known kind" };
  const name = frame.kind === "message" ? frame.message.kind : frame.kind;
  if (check.fault !== null) return { kind: "malformed", text: `${name}: ${check.fault}` };
  return { kind: "frame", frame };
}

function toFrame(message: goldcopy.pair.Frame, check: HeaderCheck): PairFrame | null {
  const received = check.wide(message.received as Wide, "received");
  if (message.hello) return toHello(message.hello, check);
  if (message.refuse) return { kind: "refuse", text: check.text(message.refuse.text) };
  if (message.beat) return { kind: "beat", received };
  const body = toBody(message, check);
  if (body === null) return null;
  const number = check.wide(message.number as Wide, "number");
  check.that(number > 0, "a message has a number");
  return { kind: "message", number, received, message: body };
}

function toHello(hello: goldcopy.pair.IHello, check: HeaderCheck): PairHello {
  check.that(hello.magic === pairMagic, "the magic number is wrong");
  check.that(hello.domain === 1 || hello.domain === 2, "the persistence domain is not known");
  const portals = hello.portals ?? [];
  check.count(portals.length, pairLimits.portalsMax, "portals");
  return {
    kind: "hello",
    version: hello.version ?? 0,
    versionMin: hello.versionMin ?? 0,
    array: check.name(hello.array, "array"),
    appliance: check.name(hello.appliance, "appliance"),
    session: check.id(hello.session, "session"),
    theirs: check.optionalId(hello.theirs, "theirs"),
    portals: portals.map((portal) => ({
      protocol: check.name(portal.protocol, "protocol"),
      address: check.name(portal.address, "address"),
    })),
    cacheBytes: check.wide(hello.cacheBytes as Wide, "cacheBytes"),
    domain: hello.domain === 1 ? "battery" : "flush",
  };
}

function toBody(message: goldcopy.pair.Frame, check: HeaderCheck): PairMessage | null {
  const { mirror, mirrored } = message;
  if (message.ask) return { kind: "ask" };
  if (message.told) return { kind: "told" };
  if (mirror) {
    const offsets = mirror.offsets ?? [];
    const lengths = mirror.lengths ?? [];
    check.that(offsets.length === lengths.length, "as many lengths as offsets");
    check.count(offsets.length, pairLimits.rangesMax, "offsets");
    return { kind: "mirror", frame: check.wide(mirror.frame as Wide, "frame"), offsets, lengths };
  }
  if (mirrored) return { kind: "mirrored", frame: check.wide(mirrored.frame as Wide, "frame") };
  return toCopyBody(message, check) ?? toSessionBody(message, check);
}

function toCopyBody(message: goldcopy.pair.Frame, check: HeaderCheck): PairMessage | null {
  const { state, attach, attached, compare, differs, mirrorFailed } = message;
  if (message.lead) return { kind: "lead" };
  if (message.follow) return { kind: "follow" };
  if (message.handOver) return { kind: "handOver" };
  if (state) {
    return {
      kind: "state",
      role: check.code(pairRoles, state.role, "role"),
      nonce: check.optionalId(state.nonce, "nonce"),
      batteryGood: state.batteryGood === true,
      text: check.text(state.text),
      preferred: state.preferred === true,
      copy: check.code(pairCopies, state.copy, "copy"),
      serving: toServing(state.serving, check),
      emptySlots: toEmptySlots(state.emptySlots, check),
    };
  }
  if (attach) return { kind: "attach", nonce: check.optionalId(attach.nonce, "nonce") };
  if (attached) return { kind: "attached", refusal: check.text(attached.refusal) };
  if (compare) {
    const pageBytes = compare.pageBytes ?? 0;
    check.that(pageBytes === pairLimits.comparePageBytes, "pages are of 64 KiB");
    return { kind: "compare", offset: compare.offset ?? 0, pageBytes };
  }
  if (differs) {
    const pages = differs.pages ?? [];
    check.count(pages.length, pairLimits.comparePagesMax, "pages");
    check.that(
      pages.every((page, index) => page < pairLimits.comparePagesMax && (index === 0 || page > pages[index - 1]!)),
      "the pages are in order",
    );
    return { kind: "differs", offset: differs.offset ?? 0, pages };
  }
  if (mirrorFailed) return { kind: "mirrorFailed", text: check.text(mirrorFailed.text) };
  return null;
}

function toServing(ids: readonly Uint8Array[] | null | undefined, check: HeaderCheck): string[] {
  const given = ids ?? [];
  if (!check.count(given.length, pairLimits.groupsMax, "serving")) return [];
  return given.map((id) => check.id(id, "serving"));
}

function toEmptySlots(places: readonly string[] | null | undefined, check: HeaderCheck): string[] {
  const given = places ?? [];
  return check.count(given.length, pairLimits.emptySlotsMax, "empty slots")
    ? given.map((place) => check.text(place))
    : [];
}

function toSessionBody(message: goldcopy.pair.Frame, check: HeaderCheck): PairMessage | null {
  const { directory, openNexus, openVolume, close, call, answer } = message;
  if (directory) return { kind: "directory", more: directory.more === true };
  if (openNexus) {
    return {
      kind: "openNexus",
      channel: openNexus.channel ?? 0,
      initiatorPort: check.text(openNexus.initiatorPort),
      portalGroup: openNexus.portalGroup ?? 0,
      relativePort: openNexus.relativePort ?? 0,
      isContinued: openNexus.isContinued === true,
      host: toHost(openNexus.host, check),
    };
  }
  if (openVolume) {
    const { channel, name, image, host } = openVolume;
    return {
      kind: "openVolume",
      channel: channel ?? 0,
      name: check.text(name),
      image: check.text(image),
      host: toHost(host, check),
    };
  }
  if (close) return { kind: "close", channel: close.channel ?? 0 };
  if (call) {
    const { id, method, path, more } = call;
    return { kind: "call", id: id ?? 0, method: check.text(method), path: check.text(path), more: more === true };
  }
  if (answer) return { kind: "answer", id: answer.id ?? 0, status: answer.status ?? 0 };
  return null;
}

function toHost(host: goldcopy.pair.IHost | null | undefined, check: HeaderCheck): PairHost {
  return { remote: check.text(host?.remote), iqn: check.text(host?.iqn), tlsName: check.text(host?.tlsName) };
}

function optionalId(id: string | null): Uint8Array {
  return id === null ? noBytes : fromHex(id);
}

/** 3 bytes of UTF-8 per UTF-16 unit at most. */
function clip(text: string): string {
  return text.slice(0, Math.floor(pairLimits.textBytesMax / 3));
}
