"""hostile.py FOLDER: makes odd and hostile clips, and expected.json, which says what should become of each.

`kept`: a good clip, only unusual. `failed`: one failed row with a reason. `any`: one row, whichever fate, such as
damage that a decoder may or may not conceal. `absent`: nothing that could be a clip; no row. `optional`: no row, or
one failed row. In no case does the run end, hang, read another file or take memory for what a header claims.

Needs the ffmpeg command.
"""

import binascii
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
REAL = ROOT / "data/clips/real"
BIKES, CARPHONE = REAL / "bikes.mp4", REAL / "carphone.mp4"


class Folder:
    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        self.path.mkdir(parents=True)
        self.expected = {}

    def clip(self, name, fate, **facts):
        """Path of a clip that is about to be made, with what should become of it."""
        self.expected[name] = {"fate": fate, **facts}
        return self.path / name

    def write(self, name, fate, data, **facts):
        self.clip(name, fate, **facts).write_bytes(data)

    def ffmpeg(self, name, fate, *arguments, **facts):
        ffmpeg(*arguments, self.clip(name, fate, **facts))


def ffmpeg(*arguments):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def pattern(size="320x240", rate=25, seconds=2):
    """Arguments for a moving test picture."""
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def boxes(data, start=0, end=None):
    """The boxes of an MP4 between two offsets: (type, start of the content, end)."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        size = size or end - start
        yield kind, start + header, start + size
        start += size


def with_header_size(source, width, height):
    """An MP4 whose track header and sample entry claim another picture size; the coded video stays as it is."""
    data = bytearray(pathlib.Path(source).read_bytes())

    def walk(start, end):
        for kind, inside, stop in boxes(data, start, end):
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                walk(inside, stop)
            elif kind == b"tkhd":
                struct.pack_into(">II", data, stop - 8, width << 16, height << 16)
            elif kind == b"stsd":
                for entry, first, _ in boxes(data, inside + 8, stop):
                    if entry in (b"avc1", b"mp4v", b"png ", b"vp09"):
                        struct.pack_into(">HH", data, first + 24, width, height)

    walk(0, len(data))
    return bytes(data)


def with_vp9_size(source, width, height):
    """A VP9 file whose key frames claim another picture size: the decoder itself would take the memory."""
    data = bytearray(pathlib.Path(source).read_bytes())
    at = data.find(b"\x49\x83\x42")
    if at < 0:
        raise SystemExit("no VP9 key frame found")
    while at >= 0:
        # After the sync code (profile 0): 3 bits of colour space, 1 of range, then width - 1 and height - 1 in 16 each.
        word = int.from_bytes(data[at + 3 : at + 8], "big")
        word = (word & (0xF << 36 | 0xF)) | (width - 1) << 20 | (height - 1) << 4
        data[at + 3 : at + 8] = word.to_bytes(5, "big")
        at = data.find(b"\x49\x83\x42", at + 8)
    return bytes(data)


def with_png_size(source, width, height):
    """PNG pictures whose own header claims another size, checksum included."""
    data = bytearray(pathlib.Path(source).read_bytes())
    at = data.find(b"IHDR")
    while at >= 0:
        struct.pack_into(">II", data, at + 4, width, height)
        struct.pack_into(">I", data, at + 17, binascii.crc32(data[at : at + 17]))
        at = data.find(b"IHDR", at + 17)
    return bytes(data)


def damaged(folder):
    bikes = BIKES.read_bytes()
    fast = folder.path / "fast.tmp"
    ffmpeg("-i", BIKES, "-c", "copy", "-movflags", "+faststart", "-f", "mp4", fast)
    start_first = fast.read_bytes()
    late = folder.path / "late.tmp"
    ffmpeg("-i", BIKES, "-c", "copy", "-f", "mp4", late)
    start_last = late.read_bytes()
    fast.unlink()
    late.unlink()
    folder.write("truncated-tail.mp4", "failed", start_first[: len(start_first) * 6 // 10])
    folder.write("truncated-index.mp4", "failed", start_last[: len(start_last) * 6 // 10])
    folder.write("truncated-header.mp4", "failed", bikes[:20])
    folder.write("zero-bytes.mp4", "failed", b"")
    folder.write("one-byte.mp4", "failed", b"\0")
    folder.write("text.mp4", "failed", b"this is no video, it is a text that somebody named so\n" * 50)
    folder.write("zeros.mp4", "failed", bytes(1 << 20))
    middle = bytearray(start_first)
    third = len(middle) // 3
    middle[2 * third : 2 * third + 4096] = bytes((i * 167 + 13) % 256 for i in range(4096))
    folder.write("damaged-middle.mp4", "any", bytes(middle))


def without_video(folder):
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=2")
    folder.ffmpeg("audio-only.mp4", "failed", *tone, "-c:a", "aac")
    folder.ffmpeg("audio-named-video.mp4", "failed", *tone, "-c:a", "pcm_s16le", "-f", "wav")
    picture = folder.path / "cover.tmp.png"
    ffmpeg(*pattern("64x64", 1, 1), "-frames:v", 1, picture)
    folder.ffmpeg(
        "audio-with-cover.mp4", "failed",
        *tone, "-i", picture, "-map", 0, "-map", 1, "-c:a", "aac", "-c:v", "png", "-disposition:v:0", "attached_pic",
    )
    shutil.copy(picture, folder.clip("picture.mp4", "failed"))
    picture.unlink()
    folder.ffmpeg("one-frame.mp4", "failed", *pattern(), "-frames:v", 1, "-pix_fmt", "yuv420p")
    folder.ffmpeg("two-frames.mp4", "failed", *pattern(), "-frames:v", 2, "-pix_fmt", "yuv420p")


def false_headers(folder):
    folder.write("header-0x0.mp4", "failed", with_header_size(CARPHONE, 0, 0))
    folder.write("header-30000x30000.mp4", "failed", with_header_size(CARPHONE, 30_000, 30_000))
    vp9 = folder.path / "vp9.tmp.webm"
    ffmpeg(*pattern(seconds=1), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, vp9)
    folder.write("vp9-16000x16000.webm", "failed", with_vp9_size(vp9, 16_000, 16_000))
    folder.write("vp9-65536x65536.webm", "failed", with_vp9_size(vp9, 65_536, 65_536))
    vp9.unlink()
    png = folder.path / "png.tmp.mov"
    ffmpeg(*pattern("64x64", 10, 1), "-c:v", "png", png)
    folder.write("png-16000x16000.mov", "failed", with_png_size(png, 16_000, 16_000))
    png.unlink()


def playlists(folder):
    """Files that name another one: read as what they are, they would open it."""
    other = CARPHONE.resolve()
    hls = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:4.0,\nfile://{other}\n#EXT-X-ENDLIST\n"
    folder.write("playlist-hls.mp4", "failed", hls.encode())
    folder.write("playlist-concat.mp4", "failed", f"ffconcat version 1.0\nfile '{other}'\n".encode())
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT4S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet '
        'mimeType="video/mp4"><Representation id="0" bandwidth="1" width="176" height="144"><BaseURL>'
        f"file://{other}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    folder.write("playlist-dash.mp4", "failed", dash.encode())
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    folder.write("session.mp4", "failed", sdp.encode())


def unusual(folder):
    """Good clips that a careless decoder gets wrong."""
    small = ("-pix_fmt", "yuv420p", "-preset", "ultrafast")
    folder.ffmpeg("vfr.mp4", "kept", *pattern(), "-vf", "setpts='(N+0.4*mod(N,5))/25/TB'", "-fps_mode", "vfr",
                  "-video_track_timescale", 90_000, *small, width=320, height=240)
    folder.ffmpeg("rotated.mp4", "kept", "-i", CARPHONE, "-c", "copy", "-metadata:s:v:0", "rotate=90",
                  width=144, height=176)
    folder.ffmpeg("ten-bit.mp4", "kept", *pattern(), "-pix_fmt", "yuv420p10le", "-preset", "ultrafast")
    folder.ffmpeg("full-range.mp4", "kept", *pattern(), "-pix_fmt", "yuvj420p", "-preset", "ultrafast")
    # testsrc2 makes even sizes of odd ones.
    folder.ffmpeg("odd-size.mp4", "kept", "-f", "lavfi", "-i", "testsrc=size=321x241:rate=25:duration=2",
                  "-pix_fmt", "yuv444p", "-preset", "ultrafast", width=321, height=241)
    folder.ffmpeg("tiny.mp4", "kept", *pattern("16x16"), *small, width=16, height=16)
    folder.ffmpeg("grey.mkv", "kept", *pattern(), "-pix_fmt", "gray", "-c:v", "ffv1")
    folder.ffmpeg("alpha.mov", "kept", *pattern("64x64"), "-pix_fmt", "rgba", "-c:v", "png")
    folder.ffmpeg("interlaced.mp4", "kept", *pattern(), "-flags", "+ildct+ilme", "-x264-params", "interlaced=1", *small)
    folder.ffmpeg("wide-pixels.mp4", "kept", *pattern(), "-vf", "setsar=4/3", *small, width=320, height=240)
    folder.ffmpeg("edit-list.mp4", "kept", "-ss", 1.3, "-i", BIKES, "-c", "copy", "-t", 3)
    folder.ffmpeg("fragmented.mp4", "kept", *pattern(), *small, "-movflags", "+frag_keyframe+empty_moov")
    folder.ffmpeg("late-start.ts", "kept", *pattern(), *small, "-output_ts_offset", 3600, "-f", "mpegts")
    folder.ffmpeg("two-videos.mkv", "kept", *pattern(), *pattern("64x64"), "-map", 0, "-map", 1, *small)
    folder.ffmpeg("vp9.webm", "kept", *pattern(seconds=1), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8)
    folder.ffmpeg("mpeg4.avi", "kept", *pattern(), "-c:v", "mpeg4")
    folder.ffmpeg("matroska.mkv", "kept", *pattern(), *small)
    folder.ffmpeg("wrong-extension.mp4", "kept", *pattern(), *small, "-f", "matroska")
    # A pipe cannot be sought in, so this one has neither a duration nor an index.
    live = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", *map(str, pattern()), *small, "-f", "matroska", "-live", "1", "-"],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    ).stdout
    folder.write("no-duration.mkv", "kept", live)


def names(folder):
    data = CARPHONE.read_bytes()
    for name in (
        "süße Katze 猫.mp4",
        "  spaces  and 'quotes' \"both\".mp4",
        "percent%20 hash# question? amp&.mp4",
        "dots.in.the.name.mp4",
        "-rf.mp4",
        "[glob]*{a,b}.mp4",
        "back\\slash.mp4",
        "UPPER.MP4",
        "n" * 251 + ".mp4",
        "same-bytes-1.mp4",
        "same-bytes-2.mp4",
    ):
        folder.write(name, "kept", data)
    folder.write("new\nline.mp4", "any", data)
    nested = folder.path / "nested" / "deeper"
    nested.mkdir(parents=True)
    folder.write("nested/same-name.mp4", "kept", data)
    folder.write("nested/deeper/same-name.mp4", "kept", data)


def places(folder):
    data = CARPHONE.read_bytes()
    folder.clip("folder.mp4", "absent").mkdir()
    folder.clip("dangling.mp4", "optional").symlink_to("nowhere.mp4")
    folder.clip("to-itself.mp4", "optional").symlink_to("to-itself.mp4")
    (folder.path / "loop").symlink_to(".")
    os.mkfifo(folder.clip("pipe.mp4", "optional"))
    folder.clip("link.mp4", "any").symlink_to(CARPHONE.resolve())
    unreadable = folder.clip("unreadable.mp4", "kept" if os.geteuid() == 0 else "failed")
    unreadable.write_bytes(data)
    unreadable.chmod(0)
    # The extension says that it is none; it belongs to another program.
    folder.write("notes.txt", "absent", b"not a clip\n")
    folder.write(".hidden.part", "absent", data[:1000])


def make(path):
    """Fills a new folder and returns what is expected, by the path below the folder."""
    folder = Folder(path)
    for fill in (damaged, without_video, false_headers, playlists, unusual, names, places):
        fill(folder)
    return folder.expected


if __name__ == "__main__":
    if len(sys.argv) != 2 or pathlib.Path(sys.argv[1]).exists():
        sys.exit(f"{__doc__}\nFOLDER must not exist yet")
    expected = make(sys.argv[1])
    target = pathlib.Path(sys.argv[1]) / "expected.json"
    target.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(expected)} clips in {sys.argv[1]}")
