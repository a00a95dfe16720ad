import type { JSX } from "preact";
import { qrCode } from "./qr-code.ts";

/** A link as a QR code, dark on light in any theme: scanners expect that. */
export function QrPicture({ text, label }: { text: string; label: string }): JSX.Element {
  const rows = qrCode(text);
  const size = rows.length + 8; // with the quiet zone
  const path = rows.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
  return (
    // oxlint-disable-next-line jsx-a11y/prefer-tag-over-role -- drawn here: the secret in it goes nowhere
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} shape-rendering="crispEdges">
      <path d={path} />
    </svg>
  );
}
