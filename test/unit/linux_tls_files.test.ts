import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readTlsFiles, type TlsFiles } from "../../hal/linux/tls_files.ts";
import { makeCertificates } from "../real/support/certificates.ts";

const test = suite("linux_tls_files");

let folder = "";
let good: TlsFiles;
const nowMs = Date.parse("2026-11-28T12:00:00Z");

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tls-files-"));
  await makeCertificates(folder);
  good = { certificate: at("server.pem"), key: at("server.key"), ca: at("ca.pem") };
});

test.after(() => rmSync(folder, { recursive: true, force: true }));

function at(name: string): string {
  return join(folder, name);
}

test("certificate, key and CA that belong together -> taken; without a CA too", () => {
  const read = readTlsFiles(good, Date.now());
  assert.not("error" in read, JSON.stringify(read));
  if ("error" in read) return;
  assert.equal(read.warnings, []);
  assert.is(read.caPem, readFileSync(good.ca!, "utf8"));
  const bare = readTlsFiles({ ...good, ca: null }, nowMs);
  assert.ok(!("error" in bare) && bare.caPem === null);
});

test("a file that is missing, a folder, no PEM, damaged, the key of another -> one line with field and file", () => {
  writeFileSync(at("text.pem"), "hello\n");
  writeFileSync(at("damaged.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  writeFileSync(at("long.pem"), "x".repeat(300_000));
  const cases: [Partial<TlsFiles>, RegExp][] = [
    [{ certificate: at("nowhere.pem") }, /^tls\.certificate: cannot read .*nowhere\.pem: /],
    [{ key: at("nowhere.key") }, /^tls\.key: cannot read .*nowhere\.key: /],
    [{ ca: at("nowhere.pem") }, /^tls\.ca: cannot read .*nowhere\.pem: /],
    [{ certificate: folder }, /^tls\.certificate: cannot read /],
    [{ certificate: at("text.pem") }, /^tls\.certificate: .*text\.pem has no certificate/],
    [{ certificate: at("damaged.pem") }, /^tls\.certificate: certificate 1 in .*damaged\.pem is damaged/],
    [{ ca: at("damaged.pem") }, /^tls\.ca: certificate 1 in .*damaged\.pem is damaged/],
    [{ certificate: at("long.pem") }, /^tls\.certificate: .*long\.pem is too long/],
    [{ key: at("server.pem") }, /^tls\.key: .*server\.pem has no private key/],
    [{ key: at("client.key") }, /^tls\.key: .*client\.key is not the key of the certificate/],
  ];
  for (const [change, expected] of cases) {
    const read = readTlsFiles({ ...good, ...change }, nowMs);
    assert.ok("error" in read, JSON.stringify(change));
    if (!("error" in read)) continue;
    assert.match(read.error, expected);
    assert.not.match(read.error, "\n");
  }
});

test("a certificate that has expired, or has not begun -> taken, with a warning for the operator", () => {
  const late = readTlsFiles(good, Date.parse("2100-01-01"));
  assert.ok(!("error" in late) && late.warnings.length === 2 && /has expired on/.test(late.warnings[0]!));
  const early = readTlsFiles(good, Date.parse("2000-01-01"));
  assert.ok(!("error" in early) && /begins only on/.test(early.warnings[0]!));
});

test.run();
