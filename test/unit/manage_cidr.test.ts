import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cidrContains, parseAddress, parseCidr } from "../../firmware/manage/cidr.ts";

const test = suite("manage_cidr");

test("address and network -> contained exactly when the prefix bits agree", () => {
  const rows: [string, string, boolean][] = [
    ["192.0.2.0/24", "192.0.2.255", true],
    ["192.0.2.0/24", "192.0.3.0", false],
    ["192.0.2.77/24", "192.0.2.1", true],
    ["192.0.2.7", "192.0.2.7", true],
    ["192.0.2.7", "192.0.2.6", false],
    ["192.0.2.6/31", "192.0.2.7", true],
    ["192.0.2.4/31", "192.0.2.6", false],
    ["0.0.0.0/0", "255.255.255.255", true],
    ["0.0.0.0/0", "::1", false],
    ["127.0.0.0/8", "::ffff:127.0.0.1", true],
    ["2001:db8::/32", "2001:db8:ffff::1", true],
    ["2001:db8::/33", "2001:db8:8000::1", false],
    ["::/0", "fe80::1", true],
    ["::1", "::1", true],
  ];
  for (const [network, address, contained] of rows) {
    const cidr = parseCidr(network);
    assert.ok(cidr !== null, network);
    assert.is(cidrContains(cidr, address), contained, `${address} in ${network}`);
  }
});

test("text that is no address -> null", () => {
  const bad = [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4/33",
    "1.2.3.4/",
    "1.2.3.4/-1",
    "::1/129",
    "/8",
  ];
  bad.push(
    ":::",
    "1::2::3",
    "12345::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "::1.2.3",
    "1.2.3.4::",
  );
  for (const text of bad) assert.is(parseCidr(text), null, text);
  assert.is(parseAddress("oak"), null);
});

test.run();
