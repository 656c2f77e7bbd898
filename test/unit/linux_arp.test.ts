/** What the Linux HAL tells neighbours, and how it marks its addresses. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeAnnouncement } from "../../hal/linux/gratuitous_arp.ts";
import { labelOf } from "../../hal/linux/service_address.ts";

const test = suite("linux_arp");

test("an announcement -> RFC 826 for Ethernet and IPv4: a request of the address for itself (RFC 5227 3)", () => {
  const packet = encodeAnnouncement({
    interfaceIndex: 2,
    hardwareAddress: Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55),
    ip: Uint8Array.of(192, 0, 2, 100),
  });
  const expected = ["0001", "0800", "06", "04", "0001", "021122334455", "c0000264", "000000000000", "c0000264"].join(
    "",
  );
  assert.is(Buffer.from(packet).toString("hex"), expected);
});

test("a label -> the appliance's name where 15 bytes are enough, and otherwise one of its own", () => {
  assert.is(labelOf("oak-a"), "oak-a");
  assert.is(labelOf("fifteen-bytes-1"), "fifteen-bytes-1");
  const long = ["an-appliance-called-a", "an-appliance-called-b"].map(labelOf);
  assert.equal(
    long.map((label) => [label.length, label.slice(0, 7)]),
    [
      [15, "an-appl"],
      [15, "an-appl"],
    ],
  );
  assert.is.not(long[0], long[1]);
});

test.run();
