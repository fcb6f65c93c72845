-- Which clips could not be handled, at which stage, and why? One file stands for all with the same reason.
select
  fate_stage as stage,
  fate_reason as reason,
  count(*) as clips,
  min(uri) as example
from clips
where fate = 'failed'
group by fate_stage, fate_reason
order by clips desc, stage, reason;
