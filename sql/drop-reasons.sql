-- Why were clips dropped, the commonest reason first, and how far apart were the numbers behind it?
select
  fate_stage as stage,
  fate_reason as reason,
  source,
  count(*) as clips,
  round(min(fate_value), 4) as lowest,
  round(median(fate_value), 4) as median,
  round(max(fate_value), 4) as highest
from clips
where fate = 'dropped'
group by fate_stage, fate_reason, source
order by clips desc, stage, reason, source;
