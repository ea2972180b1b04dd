// Files to try with, made here: nothing to look for on one's own disk.

const TEXTS = ["部门,人数,预算\n产品部,12,300000\n研发部,48,1200000\n市场部,9,450000\n", "text/csv"];

export function sampleFile() {
  return { kind: "file", name: "部门预算.csv", blob: new Blob([TEXTS[0]], { type: TEXTS[1] }) };
}

export function samplePicture() {
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 400;
  const pen = canvas.getContext("2d");
  const sky = pen.createLinearGradient(0, 0, 0, 400);
  sky.addColorStop(0, "#7fb4ff");
  sky.addColorStop(1, "#e9f3ff");
  pen.fillStyle = sky;
  pen.fillRect(0, 0, 640, 400);
  pen.fillStyle = "#ffd166";
  pen.beginPath();
  pen.arc(500, 90, 44, 0, 7);
  pen.fill();
  for (const [color, points] of [["#5b8def", [0, 330, 190, 130, 380, 330]], ["#3f6fd1", [230, 330, 420, 170, 640, 330]], ["#2f9e6e", [0, 400, 0, 320, 640, 320, 640, 400]]]) {
    pen.fillStyle = color;
    pen.beginPath();
    pen.moveTo(points[0], points[1]);
    for (let at = 2; at < points.length; at += 2) pen.lineTo(points[at], points[at + 1]);
    pen.closePath();
    pen.fill();
  }
  return new Promise((resolve) => { canvas.toBlob((blob) => resolve({ kind: "image", name: "风景.png", blob }), "image/png"); });
}

// A film's first box and nothing to see: what a platform checks before it takes one.
export function sampleVideo() {
  const head = new Uint8Array(256);
  head.set([0, 0, 0, 24, 0x66, 0x74, 0x79, 0x70, 0x69, 0x73, 0x6f, 0x6d, 0, 0, 2, 0, 0x69, 0x73, 0x6f, 0x6d, 0x6d, 0x70, 0x34, 0x31]);
  return { kind: "video", name: "演示.mp4", blob: new Blob([head], { type: "video/mp4" }) };
}
