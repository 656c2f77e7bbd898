/** Option parser and codec: vectors, every cut, lengths that lie. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decodeGo,
  decodeMetaContext,
  decodeString,
  encodeExportNameAnswer,
  encodeGreeting,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeServerReply,
} from "../../firmware/frontend/nbd/option_codec.ts";
import { OptionParser } from "../../firmware/frontend/nbd/option_parser.ts";
import { bytesOf, goData, metaData, option } from "./support/nbd_host.ts";

const test = suite("nbd_options");

function transcript(chunks: Uint8Array[]): string[] {
  const parser = new OptionParser({ dataBytesMax: 16, skipBytesMax: 64 });
  const lines: string[] = [];
  for (const chunk of chunks) {
    parser.push(chunk);
    for (let step = parser.next(); step.kind !== "more"; step = parser.next()) {
      if (step.kind === "flags") lines.push(`flags ${step.flags}`);
      else if (step.kind === "option") {
        lines.push(
          `${step.option}/${step.length} ${step.data === null ? "skipped" : Buffer.from(step.data).toString()}`,
        );
      } else return [...lines, step.kind];
    }
  }
  return lines;
}

const script = bytesOf(
  { u32: 3 },
  option(8),
  option(1, bytesOf("0123456789abcdef")),
  option(77, bytesOf("0123456789abcdefg")),
  option(0xffffffff, bytesOf("x")),
);
const expected = ["flags 3", "8/0 ", "1/16 0123456789abcdef", "77/17 skipped", "4294967295/1 x"];

test("options in one chunk, cut at every byte, byte by byte -> the same steps", () => {
  assert.equal(transcript([script]), expected);
  for (let cut = 0; cut <= script.byteLength; cut++) {
    assert.equal(transcript([script.subarray(0, cut), script.subarray(cut)]), expected, `cut at ${cut}`);
  }
  assert.equal(transcript([...script].map((byte) => new Uint8Array([byte]))), expected);
});

test("a wrong magic -> told as soon as it is wrong", () => {
  const flags = bytesOf({ u32: 3 });
  assert.equal(transcript([flags, bytesOf("SSH-2.0-x")]), ["flags 3", "bad-magic"]);
  assert.equal(transcript([flags, bytesOf("IHAVEOPX")]), ["flags 3", "bad-magic"]);
  assert.equal(transcript([flags, bytesOf("IHA")]), ["flags 3"]);
  // A second option is judged as the first.
  assert.equal(transcript([flags, option(8), bytesOf("IHAV"), bytesOf("XXXX")]), ["flags 3", "8/0 ", "bad-magic"]);
});

test("option data longer than may be skipped -> too long, before any of it is there", () => {
  assert.equal(transcript([bytesOf({ u32: 3 }), option(7, bytesOf(""), 65)]), ["flags 3", "too-long"]);
  assert.equal(transcript([bytesOf({ u32: 3 }), option(7, bytesOf(""), 0xffffffff)]), ["flags 3", "too-long"]);
});

test("what follows an option -> left as it is", () => {
  const parser = new OptionParser({ dataBytesMax: 16, skipBytesMax: 64 });
  parser.push(bytesOf({ u32: 3 }, option(7), "rest"));
  parser.next();
  parser.next();
  assert.is(Buffer.from(parser.rest()).toString(), "rest");
});

test("GO data -> name and requests; every truncation and surplus -> null", () => {
  const data = goData("demo-1", [1, 3, 9]);
  assert.equal(decodeGo(data, 4096), { name: "demo-1", infos: [1, 3, 9] });
  for (let length = 0; length < data.byteLength; length++) {
    assert.is(decodeGo(data.subarray(0, length), 4096), null, `${length} bytes`);
  }
  assert.is(decodeGo(bytesOf(data, { u8: 0 }), 4096), null);
  assert.is(decodeGo(bytesOf({ u32: 0xffffffff }, "name", { u16: 0 }), 4096), null);
  assert.is(decodeGo(bytesOf({ u32: 4 }, "name", { u16: 65535 }), 4096), null);
});

test("meta context data -> name and queries; every truncation and lie -> null", () => {
  const data = metaData("demo-1", ["base:", "", "x-a:b"]);
  assert.equal(decodeMetaContext(data, 4096), { name: "demo-1", queries: ["base:", "", "x-a:b"] });
  for (let length = 0; length < data.byteLength; length++) {
    assert.is(decodeMetaContext(data.subarray(0, length), 4096), null, `${length} bytes`);
  }
  assert.is(decodeMetaContext(bytesOf(data, { u8: 0 }), 4096), null);
  assert.is(decodeMetaContext(bytesOf({ u32: 0xffffffff }, { u32: 0 }), 4096), null);
  assert.is(decodeMetaContext(bytesOf({ u32: 0 }, { u32: 0xffffffff }, { u32: 0 }), 4096), null);
  assert.is(decodeMetaContext(bytesOf({ u32: 0 }, { u32: 1 }, { u32: 0xfffffffc }), 4096), null);
});

test("strings -> UTF-8 without NUL, within the limit", () => {
  assert.is(decodeString(bytesOf("größe"), 16), "größe");
  assert.is(decodeString(new Uint8Array([0xff, 0xfe]), 16), null);
  assert.is(decodeString(new Uint8Array([0x61, 0]), 16), null);
  assert.is(decodeString(bytesOf("x".repeat(17)), 16), null);
});

test("replies -> the specification's bytes", () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  assert.is(hex(encodeGreeting(3)), "4e42444d41474943" + "49484156454f5054" + "0003");
  assert.is(
    hex(encodeServerReply(3, "ab", "c")),
    "0003e889045565a9" + "00000003" + "00000002" + "00000007" + "00000002" + "6162" + "63",
  );
  const facts = { name: "ab", description: "", sizeBytes: 2 ** 40 + 512, transmissionFlags: 0x0d6d };
  assert.is(
    hex(encodeInfoExport(7, facts)),
    "0003e889045565a9" + "00000007" + "00000003" + "0000000c" + "0000" + "0000010000000200" + "0d6d",
  );
  assert.is(
    hex(encodeInfoBlockSize(6, { minBytes: 512, preferredBytes: 4096, maxBytes: 33554432 })),
    "0003e889045565a9" + "00000006" + "00000003" + "0000000e" + "0003" + "00000200" + "00001000" + "02000000",
  );
  assert.is(hex(encodeExportNameAnswer(facts, true)), "0000010000000200" + "0d6d");
  assert.is(encodeExportNameAnswer(facts, false).byteLength, 134);
});

test.run();
