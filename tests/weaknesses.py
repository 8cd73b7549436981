"""Weaknesses of the existing hali, and attacks of the threat model: for each the tests that show that ours is without it."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """`tests` as `file::name`. What no test shows yet is said in `open`; what cannot apply to us, and why, in `moot`."""

    says: str
    tests: tuple[str, ...] = ()
    open: str = ""
    moot: str = ""


def _in(folder: str, **names: str) -> dict[str, str]:
    return {short: f"tests/{folder}/{name}.py::test_" for short, name in names.items()}


_T = {
    **_in("integration", api="test_api_server", engine="test_engine", hostile="test_http_hostile", source="test_http_source"),
    **_in("integration", poison="test_lan_poison"),
    **_in("integration", hub="test_hub", lan="test_lan_nodes", crash="test_node_crash", damage="test_node_damage"),
    **_in("integration", disk="test_node_disk", ipc="test_node_ipc", life="test_node_lifecycle", pull="test_pull_nasty_hub"),
    **_in("integration", sharing="test_node_sharing", torrents="test_node_torrents", settings="test_settings"),
    **_in("integration", torrent="test_torrent", swarm="test_torrent_hostile", interop="test_torrent_interop"),
    **_in("integration", links="test_torrent_links", sources="test_node_sources", transfers="test_node_transfers"),
    **_in("integration", registry="test_registry_nodes", throttle="test_throttle", store="test_cli_store"),
    **_in("integration", doctor="test_doctor"),
    **_in("unit/service", examined="test_doctor_running"),
    **_in("unit", telemetry="registry/test_telemetry", server="registry/test_registry_app", jcs="wire/test_jcs"),
    **_in("unit", ollama="export/test_ollama", lmstudio="export/test_lmstudio"),
    **_in("property", named="test_names"),
    **_in("unit/transfer", flood="test_lan_flood"),
    **_in("unit/transfer", inbox="test_lan_inbox", index="test_lan_index", metainfo="test_metainfo", params="test_torrent_params"),
    **_in("unit", entry="test_entry_points", gate="api/test_gate", load="config/test_load", identity="config/test_identity_and_paths"),
    **_in("unit", names="model/test_names", hashing="hashing/test_files", gguf="wire/test_gguf", main="cli/test_main"),
    **_in("unit", incoming="share/test_incoming"),
    **_in("fuzz", mutants="test_gguf_mutants"),
}  # fmt: skip


def _t(*names: str) -> tuple[str, ...]:
    """`hub: a_name` → `tests/integration/test_hub.py::test_a_name`."""
    return tuple(_T[short] + rest for short, _, rest in (name.partition(": ") for name in names))


WEAKNESSES: dict[int, Claim] = {
    1: Claim(
        "a neighbour's file is taken for the hub's, without its SHA-256",
        _t(
            "pull: a_flipped_byte_is_found_thrown_away_and_fetched_right_the_next_time",
            "hostile: another_sha256_than_the_pinned_one_ends_it_before_the_first_piece",
            "incoming: another_pinned_hash_or_source_begins_anew",
            "damage: a_peer_that_sends_wrong_pieces_is_banned_and_the_pull_ends_right",
            "poison: a_poisoned_file_under_a_known_name_and_hash_is_not_taken_when_the_hub_tells_the_hash",
            "poison: two_nodes_with_different_files_under_one_name_make_it_ambiguous",
        ),
    ),
    2: Claim(
        "the HTTP API listens on every address and asks nobody for a key",
        _t(
            "api: without_a_key_nothing_but_loopback_is_listened_on",
            "api: a_wildcard_address_asks_for_the_key_on_loopback_too",
            "gate: strangers_get_403_on_every_route_and_cause_nothing",
            "gate: configured_names_and_the_reached_address_are_ours_too",
        ),
    ),
    3: Claim(
        "a recorded LAN packet redirects peers; the secret is shown",
        _t(
            "inbox: a_replayed_packet_is_dropped_and_counted",
            "inbox: a_packet_from_another_host_than_it_names_is_dropped",
            "index: an_unknown_node_is_believed_if_its_clock_is_near_ours",
            "load: a_secret_is_masked",
        ),
    ),
    4: Claim(
        "telemetry is on by default and ignores its switch",
        _t(
            "telemetry: telemetry_is_off_until_switched_on",
            "telemetry: what_is_sent_is_what_telemetry_status_prints",
            "telemetry: without_telemetry_nothing_is_even_written_down",
        ),
    ),
    5: Claim(
        "the GGUF header is never looked at",
        _t(
            "engine: damaged_files_fail_to_load_with_a_reason_and_the_daemon_lives",
            "gguf: what_cannot_be_true_is_refused_with_its_reason",
            "mutants: a_damaged_model_is_refused_or_answers_or_says_what_is_wrong",
            "mutants: what_the_checker_refuses_would_have_ended_the_worker",
        ),
        open="signed releases",
    ),
    6: Claim(
        "keys cannot be changed or revoked; canonical JSON is not RFC 8785",
        _t(
            "identity: an_identity_is_made_once_private_and_signs",
            "server: a_rotated_key_signs_no_more_and_its_successor_inherits",
            "registry: a_revoked_key_publishes_no_more_and_a_new_one_takes_over",
            "jcs: names_are_sorted_by_utf_16_code_units_as_in_section_3_2_3",
            "jcs: numbers_are_written_as_in_appendix_b",
        ),
    ),
    7: Claim(
        "different models share one id",
        _t(
            "named: real_files_share_a_name_only_as_parts_of_one_model_or_as_the_same_quant_of_the_same_model",
            "named: no_two_models_of_one_real_repository_share_a_name",
            "named: no_two_files_of_a_repository_ever_share_a_name",
        ),
    ),
    8: Claim(
        "a fetched file is read again, several times",
        _t(
            "torrent: a_finished_file_is_seeded_without_being_read",
            "crash: a_torrent_pull_killed_again_and_again_fetches_and_hashes_no_finished_piece_twice",
            "hashing: nothing_is_read_when_all_is_known",
        ),
    ),
    9: Claim(
        "ordinary clients on the LAN cannot find hali; its port changes at each start",
        _t(
            "torrents: a_plain_seeder_is_found_by_lsd_alone",
            "interop: two_halis_of_one_machine_find_each_other_by_lsd",
            "torrent: the_port_of_last_time_is_preferred_but_not_insisted_on",
        ),
    ),
    10: Claim(
        "a broken connection deletes what came; 429 and 503 are final",
        _t(
            "pull: trouble_that_passes_ends_with_the_right_file",
            "pull: a_change_midway_keeps_the_verified_pieces_for_the_next_time",
            "crash: a_pull_from_the_hub_asks_for_no_finished_piece_again",
            "source: a_busy_server_is_left_alone_for_as_long_as_it_asks",
        ),
    ),
    11: Claim(
        "one source that fails ends the pull; a repository is pulled with all its quants",
        _t(
            "sharing: a_second_pull_is_answered_from_the_store_without_network_or_hashing",
            "sharing: a_name_means_on_the_lan_what_it_means_in_the_store",
            "sources: two_of_three_sources_may_die_on_the_way",
            "registry: with_the_registry_down_pulls_succeed_and_its_events_arrive_later_even_after_a_kill",
        ),
    ),
    12: Claim("`models_dir` is not the same for all commands", _t("settings: the_key_has_its_effect")),
    13: Claim(
        "one bad metadata.json hides the store; a file that is gone counts as there",
        _t(
            "damage: a_damaged_metadata_file_harms_its_model_only",
            "damage: a_file_that_is_gone_is_missing_and_the_rest_goes_on",
            "entry: metadata_names_no_file_outside_its_folder",
        ),
    ),
    14: Claim(
        "caps are eight times off and do not cover the hub; a pause trickles on",
        _t("settings: the_key_has_its_effect", "torrent: a_rate_cap_holds_on_the_local_network")
        + _t("source: the_rate_limit_holds_over_all_connections_and_sources")
        + _t("throttle: the_sum_of_both_holds_the_cap_and_each_gets_its_part")
        + _t("transfers: a_pause_stops_a_pull_from_the_hub_survives_kill_9_and_its_end_lets_the_pull_end")
        + _t("transfers: a_paused_node_serves_nothing_and_offers_nothing_on_the_lan"),
    ),
    15: Claim(
        "a changed setting restarts the daemon and loses its jobs",
        _t(
            "life: a_signal_in_the_middle_of_a_pull_ends_in_order_and_the_pull_goes_on_later",
            "transfers: a_running_pull_is_not_disturbed_by_changes_of_caps_schedule_and_places",
        ),
    ),
    16: Claim(
        "exports cannot be used; `--json` is for one command; documented commands are missing",
        _t(
            "main: an_error_is_json_when_json_was_asked_for",
            "main: every_command_has_help_and_takes_no_unknown_option",
            "life: start_stop_and_restart_do_nothing_twice_and_lose_nothing",
            "ollama: ollama_lists_the_model_with_everything_it_wants_to_know",
            "ollama: a_second_export_changes_nothing_and_says_so",
            "lmstudio: a_model_of_a_repository_lies_where_lm_studio_would_have_put_it",
        ),
    ),
    17: Claim(
        "versions split a swarm; a web seed points at a moving branch",
        _t(
            "metainfo: the_same_digests_and_name_give_the_same_bytes",
            "metainfo: the_torrent_names_its_generation_and_nothing_of_the_machine",
            "torrents: one_more_torrent_of_a_stored_file_changes_nothing_but_is_no_error",
        ),
    ),
    18: Claim("service files are missing or of another name", open="services do not exist yet"),
    19: Claim(
        "one stream for each file, no mirror, no token",
        _t(
            "source: each_byte_is_asked_for_once_over_parallel_connections",
            "hostile: pieces_fetched_one_by_one_share_few_connections_and_ask_for_no_byte_twice",
            "hub: the_endpoint_comes_from_huggingface_hub_when_none_is_given",
            "pull: a_token_opens_a_gated_repository_and_is_seen_by_nobody_else",
            "sources: three_sources_feed_one_file_and_info_tells_what_each_brought",
        ),
    ),
    20: Claim(
        "neighbours are found after 40 s, by multicast only, few models at a time",
        _t(
            "lan: a_node_is_heard_at_once_with_all_it_takes_to_fetch",
            "lan: a_query_is_answered_and_returns_with_the_first_hit",
            "lan: goodbye_removes_a_node_at_once",
            "lan: more_models_than_a_packet_holds_all_arrive",
            "lan: nodes_in_other_subnets_are_reached_by_unicast",
            "lan: a_restarted_node_is_heard_even_with_its_clock_set_back",
        ),
    ),
    21: Claim(
        "a third download is an error; hashing uses one core",
        _t(
            "hashing: any_number_of_threads_gives_the_digests_of_the_stream",
            "transfers: more_pulls_than_places_wait_by_priority_then_arrival_also_after_kill_9",
        ),
    ),
    22: Claim(
        "clients poll, one request for each connection",
        _t(
            "ipc: many_requests_of_one_connection_are_answered_with_their_ids",
            "sharing: every_event_of_a_pull_is_one_json_line",
        ),
    ),
    23: Claim(
        "no rm, no verify, no pull by magnet or infohash, and other gaps",
        _t(
            "sharing: list_info_verify_and_rm_say_the_same_with_and_without_a_daemon",
            "torrents: a_hali_magnet_and_its_infohashes_find_the_node_by_themselves",
            "torrents: a_torrent_file_is_pulled",
            "store: a_prune_takes_the_least_recently_used_and_never_a_pinned_one",
            "store: a_pull_above_the_quota_is_refused_with_the_command_that_helps",
            "transfers: the_schedule_pauses_from_the_start_and_a_person_may_overrule_it",
            "doctor: a_healthy_node_passes_every_check_that_applies",
        ),
        open="update, metrics of the daemon",
    ),
}

# Of the existing Halo, by its number there: what applies to a node.
HALO: dict[str, Claim] = {
    "W14": Claim(
        "doctor hides faults: a broken configuration counts as there, and the exit code is 0 whatever fails",
        _t(
            "doctor: a_bad_line_of_the_configuration",
            "doctor: a_variable_that_no_setting_takes",
            "doctor: a_compiled_module_that_is_missing",
            "examined: the_worst_finding_is_the_exit_code",
            "examined: checks_that_raise_fail_with_the_reason_and_the_others_have_their_say",
        ),
    ),
}

# By the rows of the threat model that concern names, links, servers and the LAN.
ATTACKS: dict[str, Claim] = {
    "S3 spoofed or replayed announcements": Claim(
        "packets are signed, fresh, and from the address they name",
        _t(
            "inbox: a_replayed_packet_is_dropped_and_counted",
            "inbox: a_forged_packet_is_dropped_and_does_not_move_the_sequence",
            "inbox: a_packet_from_another_host_than_it_names_is_dropped",
            "index: an_unknown_node_is_believed_if_its_clock_is_near_ours",
        ),
    ),
    "S3 floods": Claim(
        "rates, memory and the log are bounded",
        _t(
            "inbox: a_flood_from_one_address_is_cut_before_signatures_are_checked",
            "flood: ten_thousand_strangers_leave_memory_bounded_and_the_honest_node_visible",
            "flood: without_the_limits_the_same_flood_grows_the_memory",
            "lan: garbage_on_the_port_is_counted_and_harms_nothing",
        ),
    ),
    "S3 reflection": Claim(
        "nobody gets more bytes than he sent", _t("lan: a_unicast_answer_is_never_longer_than_the_question")
    ),
    "S3 who has which model": Claim(
        "model ids are told to the LAN", open="ids that only holders of the secret can read"
    ),
    "S4 names that become paths": Claim(
        "one rule for names, nothing written outside the store",
        _t(
            "entry: no_name_of_a_link_or_torrent_becomes_a_path",
            "entry: what_is_pulled_is_no_path_out_and_no_url_inside",
            "entry: metadata_names_no_file_outside_its_folder",
            "entry: a_symbolic_link_leads_nothing_out_of_the_store",
            "hub: names_that_cannot_be_files_everywhere_are_left_out",
            "torrents: a_torrent_whose_pieces_cross_its_files_is_refused_in_one_line_and_leaves_nothing",
            "incoming: a_symlink_planted_as_the_target_is_not_followed",
        ),
    ),
    "S4 links that make us ask others": Claim(
        "web seeds, peers and trackers of a link reach no address inside",
        _t(
            "links: no_address_in_a_torrent_makes_libtorrent_ask_this_machine",
            "pull: web_seeds_of_a_torrent_make_the_daemon_connect_to_nothing_on_this_machine",
            "pull: a_magnet_makes_the_daemon_connect_to_nothing_on_this_machine",
            "hostile: no_link_leads_into_this_machine_or_network",
            "params: trackers_and_web_seeds_are_left_out",
        ),
    ),
    "S4 torrents that eat memory": Claim(
        "size, pieces, depth and number of values are bounded",
        _t(
            "metainfo: a_torrent_beyond_the_size_limit_is_refused_unread",
            "metainfo: too_many_pieces_are_refused",
            "metainfo: deep_nesting_is_refused_before_anything_recurses",
            "metainfo: a_flood_of_values_is_refused",
        ),
    ),
    "S4 the wrong model under the right name": Claim(
        "the SHA-256 decides, whoever sends the bytes",
        _t(
            "pull: a_flipped_byte_is_found_thrown_away_and_fetched_right_the_next_time",
            "crash: bytes_that_changed_in_an_unfinished_file_never_reach_the_store",
        ),
    ),
    "S13 redirects, tokens, DNS": Claim(
        "each hop is looked at and dialled as seen, tokens stay at home",
        _t(
            "hostile: no_redirect_of_a_public_hub_leads_into_this_machine_or_network",
            "hostile: a_name_that_changes_its_address_after_the_check_gains_nothing",
            "hostile: a_public_hub_with_a_cdn_elsewhere_serves_and_the_token_stays_at_home",
            "hostile: plain_http_after_https_is_refused",
            "hub: the_api_is_not_asked_elsewhere_because_a_redirect_says_so",
            "source: a_circle_of_redirects_ends",
        ),
    ),
    "S13 false bytes": Claim(
        "cut, shifted, longer, compressed, changed midway: the right file or one error",
        _t(
            "pull: a_lie_ends_in_one_line_and_the_store_is_as_before",
            "pull: trouble_that_passes_ends_with_the_right_file",
            "source: any_mixture_of_passing_trouble_ends_with_the_right_bytes",
            "source: a_file_that_changes_on_the_way_is_refused",
            "source: lies_about_the_range_end_the_source",
            "hostile: a_login_page_with_200_is_named_and_not_tried_again",
        ),
    ),
    "S13 bytes without end": Claim(
        "no answer is read beyond its limit",
        _t(
            "hostile: a_document_is_read_up_to_its_limit_only",
            "hub: an_endless_answer_of_the_api_is_not_read_to_its_end",
            "source: lies_about_the_range_end_the_source",
        ),
    ),
}
