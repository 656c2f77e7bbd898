import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatSize, parseSize } from "../../firmware/codec/sizes.ts";

const test = suite("sizes");

test("sizes with and without unit -> bytes", () => {
  const rows: [string, number][] = [
    ["0", 0],
    ["4096", 4096],
    ["17B", 17],
    ["1KiB", 1024],
    ["512MiB", 512 * 1024 ** 2],
    ["10GiB", 10 * 1024 ** 3],
    ["1TB", 1e12],
    ["1.5gib", 1.5 * 1024 ** 3],
    [" 2 mib ", 2 * 1024 ** 2],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ];
  for (const [text, bytes] of rows) assert.is(parseSize(text), bytes, text);
});

test("what is no size, no whole number of bytes or too large -> null", () => {
  for (const text of [
    "",
    "MiB",
    "-1",
    "12XB",
    "1e3",
    "0.3B",
    "1.0000001KiB",
    "9007199254740992",
    "99999TiB",
    "1 0",
    "0x10",
  ]) {
    assert.is(parseSize(text), null, text);
  }
});

test("any size is formatted -> the largest whole binary unit, and parsed back to the same", () => {
  assert.is(formatSize(256 * 1024 ** 2), "256MiB");
  assert.is(formatSize(1024 ** 4), "1TiB");
  assert.is(formatSize(1000), "1000B");
  assert.is(formatSize(0), "0B");
  for (const bytes of [0, 1, 1023, 1024, 1536, 1e12, 3 * 1024 ** 3, Number.MAX_SAFE_INTEGER]) {
    assert.is(parseSize(formatSize(bytes)), bytes);
  }
});

test.run();
