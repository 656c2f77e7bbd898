import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseSize } from "../../firmware/codec/sizes.ts";
import {
  formatBytes,
  formatCount,
  formatMs,
  parseDuration,
  parseRate,
  parseShare,
} from "../../firmware/shell/quantities.ts";

const test = suite("shell_quantities");

test("sizes as people write them -> bytes", () => {
  const rows: [string, number | null][] = [
    ["10GiB", 10 * 1024 ** 3],
    ["512MiB", 512 * 1024 ** 2],
    ["1TB", 1e12],
    ["4096", 4096],
    ["1.5 GiB", 1.5 * 1024 ** 3],
    ["2g", null],
    ["100kB", 100_000],
    ["0", 0],
    ["", null],
    ["GiB", null],
    ["-1GiB", null],
    ["1e9", null],
    ["1.3", null],
    ["10 XB", null],
    ["999999999999TiB", null],
    ["0x10", null],
  ];
  for (const [text, bytes] of rows) assert.is(parseSize(text), bytes, text);
});

test("times, rates, shares -> milliseconds, bytes per second, 0 to 1", () => {
  assert.is(parseDuration("30s"), 30_000);
  assert.is(parseDuration("500ms"), 500);
  assert.is(parseDuration("2m"), 120_000);
  assert.is(parseDuration("1.5"), 1500);
  assert.is(parseDuration("soon"), null);
  assert.is(parseDuration("-3s"), null);
  assert.is(parseRate("100mbit"), 12_500_000);
  assert.is(parseRate("1gbit/s"), 125_000_000);
  assert.is(parseRate("100"), null);
  assert.is(parseShare("0.1%"), 0.001);
  assert.is(parseShare("0.25"), 0.25);
  assert.is(parseShare("101%"), null);
});

test("quantities -> as people read them", () => {
  assert.is(formatBytes(0), "0 B");
  assert.is(formatBytes(1023), "1023 B");
  assert.is(formatBytes(4096), "4 KiB");
  assert.is(formatBytes(1536 * 1024), "1.5 MiB");
  assert.is(formatBytes(1024 ** 3), "1 GiB");
  assert.is(formatBytes(1024 ** 3 - 1), "1.0 GiB");
  assert.is(formatBytes(250.4 * 1024 ** 2), "250 MiB");
  assert.is(formatMs(12.4), "12 ms");
  assert.is(formatMs(3400), "3.4 s");
  assert.is(formatMs(125_000), "2 min 5 s");
  assert.is(formatMs(12_000_000), "3 h 20 min");
  assert.is(formatCount(1234567), "1,234,567");
});

test.run();
