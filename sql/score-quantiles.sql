-- How are the scores spread, by source? Clips without a score (dropped or failed before they had one) are left out.
select
  source,
  count(*) as clips,
  round(min(simdrop_score), 4) as lowest,
  round(percentile_cont(0.1) within group (order by simdrop_score), 4) as p10,
  round(percentile_cont(0.25) within group (order by simdrop_score), 4) as p25,
  round(percentile_cont(0.5) within group (order by simdrop_score), 4) as median,
  round(percentile_cont(0.75) within group (order by simdrop_score), 4) as p75,
  round(percentile_cont(0.9) within group (order by simdrop_score), 4) as p90,
  round(max(simdrop_score), 4) as highest
from clips
where simdrop_score is not null and not isnan(simdrop_score)
group by source
order by source;
