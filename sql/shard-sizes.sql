-- How large are the shards, and is what they hold mixed? The share of synthetic clips is by number of clips.
select
  shards.shard,
  max(samples) as samples,
  round(max(bytes) / 1e6, 3) as mb,
  round(100.0 * count(*) filter (where source = 'synthetic') / nullif(count(source), 0), 1) as synthetic_percent
from shards left join clips on shards.shard = clips.shard
group by shards.shard
order by shards.shard;
