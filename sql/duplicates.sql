-- Which clips may be in the dataset twice? Kept clips of the same span, of files with the same size and the same number
-- of frames, under different names.
select
  size_bytes,
  frame_count,
  start_s,
  end_s,
  count(*) as clips,
  min(uri) as first_uri,
  max(uri) as last_uri
from clips
where fate = 'kept'
group by size_bytes, frame_count, start_s, end_s
having count(distinct uri) > 1
order by clips desc, size_bytes desc, start_s;
