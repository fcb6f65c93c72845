-- Where do the captions of the kept clips come from, and how long are they?
select
  coalesce(caption_source, 'none') as caption_source,
  count(*) as clips,
  count(distinct caption) as different,
  round(avg(character_length(caption)), 1) as mean_characters,
  max(character_length(caption)) as most_characters,
  min(caption) as example
from clips
where fate = 'kept'
group by caption_source
order by clips desc, caption_source;
