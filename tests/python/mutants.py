"""mutants.py FOLDER [--count 300] [--seed 1] [--originals]: fills a new folder with damaged clips, the same ones for the same seed.

The originals are short and small: cuts of real clips and a few synthetic ones in many containers and codecs. Each mutant
is one of them after one to four mutations: bits flipped, runs zeroed or randomised, cut short, pieces swapped, doubled or
left out, sizes and counts in headers altered, or grafted onto another clip. Needs the ffmpeg command.
"""

import argparse
import pathlib
import random
import struct
import sys

import hostile

ROOT = hostile.ROOT
# Most bytes of an original.
LARGEST = 60_000
# Words that stand in the headers of containers and before counts and sizes.
MARKS = (
    [b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"stbl", b"stsd", b"stts", b"ctts"]
    + [b"stsc", b"stsz", b"stco", b"stss", b"avcC", b"hvcC", b"av1C", b"moof", b"traf", b"trun", b"tfhd", b"mdat"]
    + [b"RIFF", b"LIST", b"hdrl", b"strh", b"strf", b"movi", b"idx1", b"00dc", b"OggS", b"FLV", b"onMetaData"]
    + [b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xb0", b"\xba", b"\xa3"]
    + [b"\x00\x00\x01\xba", b"\x00\x00\x01\xe0", b"\x00\x00\x01\xb3", b"\x00\x00\x01\x67", b"\x47\x40", b"\x49\x83\x42"]
)
# Numbers that break arithmetic.
NUMBERS = [0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFF0]


def originals(folder):
    """Small clips by name: every container that is read, and the codecs that differ most."""
    folder = pathlib.Path(folder)
    small = ("-t", 0.6, "-an", "-vf", "scale=96:80", "-r", 20)
    x264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", 30, "-g", 6, "-bf", 2, "-pix_fmt", "yuv420p")
    made = {
        "h264.mp4": (*x264,),
        "h264-index-last.mp4": (*x264, "-movflags", "-faststart"),
        "h264-fragmented.mp4": (*x264, "-movflags", "+frag_keyframe+empty_moov"),
        "h264-interlaced.mp4": (*x264, "-flags", "+ilme+ildct"),
        "h264.mov": (*x264,),
        "h264.mkv": (*x264,),
        "h264.avi": (*x264,),
        "h264.flv": (*x264,),
        "h264.ts": (*x264,),
        "h264-10.mkv": (*x264, "-pix_fmt", "yuv420p10le"),
        "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=6", "-tag:v", "hvc1"),
        "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", 6),
        "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-g", 6),
        "vp9.mp4": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-g", 6),
        "av1.mp4": ("-c:v", "libaom-av1", "-cpu-used", 8, "-usage", "realtime", "-g", 6),
        "mpeg4.avi": ("-c:v", "mpeg4", "-bf", 2, "-g", 6),
        "mpeg4.mov": ("-c:v", "mpeg4", "-g", 6),
        "mpeg2.ts": ("-c:v", "mpeg2video", "-bf", 2, "-g", 6),
        "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", 2, "-g", 6),
        "theora.ogv": ("-c:v", "libtheora", "-g", 6),
        "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", 8, "-pix_fmt", "yuvj420p"),
        "png.mov": ("-c:v", "png", "-frames:v", 3),
        "h263.mov": ("-c:v", "h263", "-s", "128x96", "-g", 6),
        "wmv2.avi": ("-c:v", "wmv2", "-g", 6),
        "ffv1.mkv": ("-c:v", "ffv1", "-frames:v", 4),
        "palette.avi": ("-c:v", "rawvideo", "-s", "32x24", "-pix_fmt", "pal8", "-frames:v", 8),
    }
    clips = {}
    sources = [hostile.CARPHONE, hostile.BIKES]
    for number, (name, settings) in enumerate(made.items()):
        path = folder / name
        # Behind the data, an index is lost to most mutations, and no more is tried of the clip.
        index_first = ("-movflags", "+faststart") if path.suffix in (".mp4", ".mov") else ()
        hostile.ffmpeg("-i", sources[number % len(sources)], *small, *index_first, *settings, path)
        clips[name] = path.read_bytes()
        path.unlink()
    synthetic = sorted((ROOT / "data/clips/synthetic").glob("*.mp4"), key=lambda path: (path.stat().st_size, path.name))
    clips.update((f"synthetic-{number}.mp4", path.read_bytes()) for number, path in enumerate(synthetic[:4]))
    large = [name for name, data in clips.items() if len(data) > LARGEST]
    if large:
        sys.exit(f"larger than {LARGEST} bytes: {large}")
    return clips


def span(data, draw, most):
    """A random piece: start and end."""
    length = min(len(data), 1 + int(most ** draw.random()))
    start = draw.randrange(len(data) - length + 1)
    return start, start + length


def flip(data, _, draw):
    for _ in range(1 + int(64 ** draw.random())):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def zero(data, _, draw):
    start, end = span(data, draw, 8192)
    data[start:end] = bytes(end - start)


def randomise(data, _, draw):
    start, end = span(data, draw, 8192)
    data[start:end] = draw.randbytes(end - start)


def truncate(data, _, draw):
    del data[draw.randrange(len(data)) :]


def leave_out(data, _, draw):
    start, end = span(data, draw, 4096)
    del data[start:end]


def double(data, _, draw):
    start, end = span(data, draw, 4096)
    data[end:end] = data[start:end]


def swap(data, _, draw):
    third = max(len(data) // 3, 1)
    start, end = span(data[:third], draw, 4096)
    length, other = end - start, draw.randrange(third, max(len(data) - (end - start), third + 1))
    data[start:end], data[other : other + length] = data[other : other + length], data[start:end]


def number(data, _, draw):
    """A number anywhere becomes one that breaks arithmetic."""
    place(data, draw.randrange(len(data)), draw)


def header(data, _, draw):
    """A number beside a mark of the container does: sizes stand before the kinds of boxes, counts behind them."""
    marks = [mark for mark in MARKS if mark in data]
    if not marks:
        return number(data, None, draw)
    mark = draw.choice(marks)
    places = []
    at = data.find(mark)
    while at >= 0 and len(places) < 64:
        places.append(at)
        at = data.find(mark, at + 1)
    place(data, max(0, draw.choice(places) + draw.choice([-4, len(mark), len(mark) + draw.randrange(40)])), draw)


def place(data, at, draw):
    width = draw.choice("BHIQ")
    size = struct.calcsize(width)
    if at + size > len(data):
        return
    order = draw.choice("><")
    old = struct.unpack_from(order + width, data, at)[0]
    new = draw.choice([draw.choice(NUMBERS), old + draw.randint(-9, 9), old * draw.choice([2, 256]), draw.getrandbits(63)])
    struct.pack_into(order + width, data, at, new % (1 << 8 * size))


def graft(data, other, draw):
    """The head of one clip, the tail of another."""
    data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]


def insert(data, other, draw):
    start, end = span(other, draw, 4096)
    at = draw.randrange(len(data))
    data[at:at] = other[start:end]


MUTATIONS = [flip, zero, randomise, truncate, leave_out, double, swap, number, header, header, header, graft, insert]


def mutant(clips, seed, number):
    """Name and bytes of mutant `number`."""
    draw = random.Random(f"{seed}-{number}")
    names = sorted(clips)
    name = names[number % len(names)]
    data = bytearray(clips[name])
    done = []
    for _ in range(draw.choice([1, 1, 2, 4])):
        mutation = draw.choice(MUTATIONS)
        if data:
            mutation(data, clips[draw.choice(names)], draw)
            done.append(mutation.__name__)
    stem, extension = name.rsplit(".", 1)
    return f"{number:05d}-{stem}-{'-'.join(done)}.{extension}", bytes(data)


def make(folder, count, seed=1, with_originals=False):
    """Fills a new folder; returns the names of the mutants."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    clips, names = originals(folder), []
    if with_originals:
        for name, data in clips.items():
            (folder / name).write_bytes(data)
    for number in range(count):
        name, data = mutant(clips, seed, number)
        (folder / name).write_bytes(data)
        names.append(name)
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--originals", action="store_true", help="the undamaged clips as well")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"{arguments.folder} is there already")
    names = make(arguments.folder, arguments.count, arguments.seed, arguments.originals)
    print(f"{len(names)} mutants in {arguments.folder}, {sum(path.stat().st_size for path in arguments.folder.iterdir()) >> 20} MiB")
