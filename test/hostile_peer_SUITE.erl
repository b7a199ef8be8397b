%% What a peer that has proved itself can do to a C-node with bytes: at most
%% lose its own connection (protocol.md, section 20; design.md, section 11).
%% All the while a real VM, this one, has a co-op, a link and a monitor there,
%% and numbers run through the co-op, each looked at when it comes out.
-module(hostile_peer_SUITE).

-export([all/0, suite/0, groups/0]).
-export([init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2, end_per_testcase/2]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2]).
-import(esp_test_dist, [
    dial/2, dial/3, raw/2, send/2, send/3, frame/2, frame/3, bare/1, fragments/3, tick/1,
    next/1, next/2, stays/1, await_closed/1, close/1, pid/2, pid_at/3, theirs/2, stale/2, ref/2,
    no_pid/1, flags/0
]).

-define(LIMIT, 10_000).
-define(MIB, 1_048_576).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [{group, G} || G <- [malformed, harmless, oversize, floods, ticks]].

groups() ->
    [
        {malformed, [], [
            unknown_operations_close_that_connection_alone,
            tuples_of_a_wrong_size_do,
            a_missing_payload_does,
            bytes_behind_a_signal_do,
            elements_of_a_wrong_type_do,
            signals_of_a_third_node_do,
            an_unlink_without_an_id_does,
            bad_spawn_requests_do,
            frames_of_the_wrong_kind_do,
            frames_of_a_peer_without_fragments_do,
            cache_references_do,
            terms_cut_short_at_any_byte_do,
            terms_that_nobody_can_have_made_do,
            terms_too_deep_do,
            fragments_out_of_order_do,
            whatever_one_byte_is_changed_nobody_else_is_harmed
        ]},
        {harmless, [], [
            signals_to_nobody_are_answered_or_dropped,
            signals_nobody_asked_for_are_dropped,
            the_older_forms_are_taken,
            depth_within_the_limit_is_taken,
            bad_spawn_options_are_badopt,
            nobody_ends_the_monitor_of_another,
            a_spawn_that_ends_before_its_reply_is_an_error_to_the_caller
        ]},
        {oversize, [], [
            a_signal_at_the_cap_arrives,
            a_signal_over_the_cap_is_dropped_and_the_next_arrives,
            a_signal_in_fragments_over_the_cap_is_dropped_and_the_next_arrives,
            incomplete_sequences_have_one_cap_together,
            one_sequence_too_many_is_dropped_and_the_others_arrive,
            a_frame_that_never_ends_costs_its_sender_only
        ]},
        {floods, [], [
            answers_to_a_peer_that_never_reads_are_bounded,
            data_for_a_peer_that_never_reads_wait_at_their_coop,
            data_for_a_coop_that_does_not_take_them_are_bounded,
            thousands_of_links_and_monitors_delay_nobody,
            connections_that_come_and_go_leave_nothing
        ]},
        {ticks, [parallel], [
            a_silent_peer_is_dropped_in_time,
            a_peer_that_ticks_is_kept,
            a_tick_is_answered_while_every_worker_spins
        ]}
    ].

init_per_suite(Config) ->
    [{started, esp_test_lib:start_app()} | Config].

end_per_suite(Config) ->
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

init_per_group(Group, Config) ->
    Name = list_to_atom(lists:concat(["hp_", Group, "@127.0.0.1"])),
    Plugins = lists:append([["--plugin", plugin(P)] || P <- ["sums", "spins", "blocks", "talks"]]),
    CNode = esp_test_dist:start_c_node(Name, ["--workers", "2" | Plugins] ++ options(Group)),
    [{c_node, CNode}, {witness, start_witness(Name)} | Config].

options(oversize) -> ["--max-signal", integer_to_list(?MIB)];
options(floods) -> ["--max-output", integer_to_list(8 * ?MIB)];
options(ticks) -> ["--net-ticktime", "4"];
options(_) -> [].

end_per_group(_, Config) ->
    ok = stop_witness(witness(Config)),
    esp_test_dist:stop_c_node(c_node(Config)).

end_per_testcase(_, Config) ->
    undisturbed(Config).

plugin(Name) ->
    filename:join(filename:dirname(esp_test_lib:plugin()), Name ++ ".so").

c_node(Config) -> proplists:get_value(c_node, Config).
witness(Config) -> proplists:get_value(witness, Config).

%% A name nobody has had.
name() ->
    list_to_atom(lists:concat(["hp", erlang:unique_integer([positive]), "@127.0.0.1"])).

%%% The witness: whoever harms a bystander ends it

start_witness(CNode) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() -> witness(Self, CNode) end),
    receive
        {up, Pid} ->
            demonitor(Ref, [flush]),
            Pid;
        {'DOWN', Ref, process, _, Reason} ->
            ct:fail({witness, Reason})
    end.

witness(Parent, CNode) ->
    process_flag(trap_exit, true),
    true = net_kernel:hidden_connect_node(CNode),
    monitor_node(CNode, true),
    Template = coop_flow:pipeline([coop:native(N, sums, plus1, #{}) || N <- [a, b]]),
    {ok, Coop} = coop:start_link(Template, #{node => CNode, receiver => self(), tag => out}),
    _ = [monitor(process, Pid) || Pid <- [{erlangsp, CNode} | esp_test_lib:pids(Coop)]],
    Parent ! {up, self()},
    watch(#{coop => Coop, sent => 0, seen => 0, waiting => []}).

watch(W = #{sent := Sent, seen := Seen}) when Sent - Seen < 20 ->
    ok = coop:relay_data(maps:get(coop, W), Sent),
    watch(W#{sent := Sent + 1});
watch(W = #{coop := Coop, seen := Seen, waiting := Waiting}) ->
    receive
        {out, N} when N =:= Seen + 2 ->
            {Ready, Rest} = lists:partition(fun({Count, _}) -> Count =< Seen end, Waiting),
            [From ! {self(), undisturbed} || {_, From} <- Ready],
            %% not so many that nobody else gets a processor
            receive after 1 -> watch(W#{seen := Seen + 1, waiting := Rest}) end;
        {undisturbed, From} ->
            watch(W#{waiting := [{Seen + 50, From} | Waiting]});
        stop ->
            ok = coop:stop(Coop);
        Other ->
            exit({disturbed, Other, Seen})
    end.

%% Numbers run through as before, and no exit, no 'DOWN', no nodedown came.
undisturbed(Config) ->
    Witness = witness(Config),
    Ref = monitor(process, Witness),
    Witness ! {undisturbed, self()},
    receive
        {Witness, undisturbed} ->
            demonitor(Ref, [flush]),
            ok;
        {'DOWN', Ref, process, _, Reason} ->
            ct:fail({witness, Reason})
    after ?LIMIT -> ct:fail({waited_in_vain_for, witness})
    end.

stop_witness(Witness) ->
    Ref = monitor(process, Witness),
    Witness ! stop,
    normal = esp_test_lib:down(Ref),
    ok.

%%% Malformed signals

%% Each makes frames for a peer of its own, which until then is a good one.
closes(Config, Makers) -> closes(Config, #{}, Makers).

closes(Config, Options, Makers) ->
    Bystander = dial(c_node(Config), name()),
    lists:foreach(
        fun({What, Make}) ->
            Peer = dial(c_node(Config), name(), Options),
            [] = stays(Peer),
            _ = raw(Peer, Make(Peer)),
            esp_test_dist:is_closed(Peer, ?LIMIT) orelse ct:fail({still_open_after, What})
        end,
        Makers
    ),
    [] = stays(Bystander),
    ok = close(Bystander),
    undisturbed(Config).

signal(Control) -> fun(Peer) -> frame(Peer, Control(Peer)) end.
signal(Control, Payload) -> fun(Peer) -> frame(Peer, Control(Peer), Payload) end.

%% Every operation as it should be: {Control, Payload | none}, by what its
%% elements are. To is nobody.
operations(Peer) ->
    From = pid(Peer, 1),
    To = no_pid(Peer),
    Ref = ref(Peer, [1, 2, 3]),
    Token = {0, 1, 1, From, 0},
    [
        {{1, From, To}, none},
        {{2, '', To}, {payload, m}},
        {{3, From, To, r}, none},
        {{4, From, To}, none},
        {{6, From, '', nobody}, {payload, m}},
        {{7, From, To}, none},
        {{8, From, To, r}, none},
        {{12, '', To, Token}, {payload, m}},
        {{13, From, To, Token, r}, none},
        {{16, From, '', nobody, Token}, {payload, m}},
        {{18, From, To, Token, r}, none},
        {{19, From, To, Ref}, none},
        {{20, From, To, Ref}, none},
        {{21, From, To, Ref, r}, none},
        {{22, From, To}, {payload, m}},
        {{23, From, To, Token}, {payload, m}},
        {{24, From, To}, {payload, r}},
        {{25, From, To, Token}, {payload, r}},
        {{26, From, To}, {payload, r}},
        {{27, From, To, Token}, {payload, r}},
        {{28, From, To, Ref}, {payload, r}},
        {{29, Ref, From, From, {erlang, node, 0}, []}, {payload, []}},
        {{30, Ref, From, From, {erlang, node, 0}, [], Token}, {payload, []}},
        {{31, Ref, To, 0, From}, none},
        {{32, Ref, To, 0, From, Token}, none},
        {{33, From, Ref}, {payload, m}},
        {{34, From, Ref, Token}, {payload, m}},
        {{35, 1, From, To}, none},
        {{36, 1, From, To}, none},
        {{37, 0, From, To}, {payload, m}}
    ].

%% One maker for each operation, out of what is wrong about it; `right' skips it.
of_each(Wrong) ->
    Shapes = operations(#{
        name => node(), creation => 1, their_name => node(), their_creation => 1
    }),
    [
        {element(1, Control), fun(Peer) ->
            {Right, Payload2} = lists:nth(Nth, operations(Peer)),
            case Wrong(Right, Payload2) of
                {Control2, none} -> frame(Peer, Control2);
                {Control2, {payload, P}} -> frame(Peer, Control2, P)
            end
        end}
     || {Nth, {Control, Payload}} <- lists:zip(lists:seq(1, length(Shapes)), Shapes),
        Wrong(Control, Payload) =/= right
    ].

unknown_operations_close_that_connection_alone(Config) ->
    Numbers = [0, 5, 9, 10, 11, 14, 15, 17, 38, 99, 255, 256, -1, -22, 1 bsl 32 + 22, 1 bsl 70],
    Others = [link, 22.0, "22", <<22>>, {22}, []],
    closes(Config, [
        {{Op, Payload}, fun(Peer) ->
            Control = {Op, pid(Peer, 1), no_pid(Peer)},
            case Payload of
                true -> frame(Peer, Control, m);
                false -> frame(Peer, Control)
            end
        end}
     || Op <- Numbers ++ Others, Payload <- [true, false]
    ]),
    closes(Config, [
        {Control, fun(Peer) -> frame(Peer, Control, m) end}
     || Control <- [{}, [], [22, a, b], atom, 22, <<"22">>, #{}, 1.5, ""]
    ]).

tuples_of_a_wrong_size_do(Config) ->
    Shorter = fun(Control, Payload) ->
        {erlang:delete_element(tuple_size(Control), Control), Payload}
    end,
    Longer = fun
        %% a later release may add to it
        (Control, _) when element(1, Control) =:= 37 -> right;
        (Control, Payload) -> {erlang:append_element(Control, more), Payload}
    end,
    closes(Config, of_each(Shorter) ++ of_each(Longer)).

a_missing_payload_does(Config) ->
    closes(Config, of_each(fun
        (_, none) -> right;
        (Control, _) -> {Control, none}
    end)).

bytes_behind_a_signal_do(Config) ->
    closes(Config, of_each(fun
        (Control, none) -> {Control, {payload, surplus}};
        (Control, {payload, P}) -> {Control, {payload, {bytes, [bare(P), 106]}}}
    end)).

elements_of_a_wrong_type_do(Config) ->
    %% what is no pid, atom, reference, number or tuple anywhere
    closes(Config, [
        Maker
     || Nth <- [2, 3, 4, 5],
        Maker <- of_each(fun
            (Control, Payload) when tuple_size(Control) >= Nth ->
                case is_any_term(element(1, Control), Nth) of
                    true -> right;
                    false -> {setelement(Nth, Control, [wrong]), Payload}
                end;
            (_, _) ->
                right
        end)
    ]).

%% Reasons and tokens; spawn options are a list, and checked when they are read.
is_any_term(Op, 4) when Op =:= 3; Op =:= 8; Op =:= 12; Op =:= 13; Op =:= 18 -> true;
is_any_term(Op, 4) when Op =:= 23; Op =:= 25; Op =:= 27; Op =:= 34 -> true;
is_any_term(Op, 5) when Op =:= 13; Op =:= 16; Op =:= 18; Op =:= 21 -> true;
is_any_term(_, _) -> false.

signals_of_a_third_node_do(Config) ->
    Third = pid_at('third@127.0.0.1', 1, 77),
    Own = fun(Peer) -> theirs(Peer, 1) end,
    From = fun(Op) -> lists:member(Op, [1, 3, 4, 8, 19, 20, 24, 26]) end,
    closes(Config, of_each(fun(Control, Payload) ->
        case From(element(1, Control)) of
            true -> {setelement(2, Control, Third), Payload};
            false -> right
        end
    end)),
    closes(Config, of_each(fun(Control, Payload) ->
        case lists:member(element(1, Control), [29, 30, 35, 36]) of
            true -> {setelement(3, Control, Third), Payload};
            false -> right
        end
    end)),
    %% nor can it speak for the C-node itself
    closes(Config, [
        {Op, fun(Peer) -> frame(Peer, {Op, Own(Peer), no_pid(Peer)}, r) end}
     || Op <- [24, 26]
    ]),
    closes(Config, [
        {link, signal(fun(Peer) -> {1, Own(Peer), no_pid(Peer)} end)},
        {spawn_ref, signal(
            fun(Peer) ->
                Ref = ref(#{name => 'third@127.0.0.1', creation => 77}, [1, 2, 3]),
                {29, Ref, pid(Peer, 1), pid(Peer, 1), {erlang, node, 0}, []}
            end,
            []
        )}
    ]).

an_unlink_without_an_id_does(Config) ->
    closes(Config, [
        {{Op, Id}, signal(fun(Peer) -> {Op, Id, pid(Peer, 1), no_pid(Peer)} end)}
     || {Op, Id} <- [{35, 0}, {35, -1}, {35, 1 bsl 64}, {35, id}, {36, -1}, {36, id}]
    ]).

bad_spawn_requests_do(Config) ->
    Request = fun(MFA, Options, Args) ->
        fun(Peer) ->
            Control = {29, ref(Peer, [1, 2, 3]), pid(Peer, 1), pid(Peer, 1), MFA, Options},
            frame(Peer, Control, Args)
        end
    end,
    Good = {erlang, node, 0},
    closes(Config, [
        {improper_options, Request(Good, [link | monitor], [])},
        {no_options, Request(Good, link, [])},
        {improper_arguments, Request({erlang, apply, 2}, [], [a | b])},
        {no_arguments, Request(Good, [], {})},
        {too_few, Request({erlang, apply, 2}, [], [a])},
        {too_many, Request(Good, [], [a])},
        {negative, Request({erlang, node, -1}, [], [])},
        {huge, Request({erlang, node, 1 bsl 80}, [], [])},
        {no_arity, Request({erlang, node, x}, [], [])},
        {pair, Request({erlang, node}, [], [])},
        {four, Request({erlang, node, 0, 0}, [], [])},
        {no_module, Request({1, node, 0}, [], [])},
        {no_function, Request({erlang, "node", 0}, [], [])},
        {a_list, Request([erlang, node, 0], [], [])},
        {a_name_as_leader, fun(Peer) ->
            Control = {29, ref(Peer, [1]), pid(Peer, 1), leader, Good, []},
            frame(Peer, Control, [])
        end}
    ]).

frames_of_the_wrong_kind_do(Config) ->
    Link = fun(Peer) -> bare({1, pid(Peer, 1), no_pid(Peer)}) end,
    closes(Config, [
        {pass_through, fun(Peer) -> sized([112, 131, Link(Peer)]) end},
        {no_kind, fun(Peer) -> sized([0, 131, Link(Peer)]) end},
        {no_header, fun(Peer) -> sized([131, Link(Peer)]) end},
        {tag_of_binary_to_term, fun(Peer) -> sized([131, 104 | Link(Peer)]) end},
        {one_byte, fun(_) -> sized([131]) end},
        {header_alone, fun(_) -> sized([131, 68]) end},
        {no_terms, fun(_) -> sized([131, 68, 0]) end},
        {first_fragment_cut, fun(_) -> sized([131, 69, <<1:64>>]) end},
        {next_fragment_cut, fun(_) -> sized([131, 70, <<1:64, 1:56>>]) end},
        {text, fun(_) -> "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" end},
        {version_in_the_middle, fun(Peer) ->
            sized([131, 68, 0, bare({22, pid(Peer, 1), no_pid(Peer)}), 131, bare(m)])
        end},
        {compressed, fun(Peer) ->
            <<131, Packed/binary>> = term_to_binary(lists:duplicate(1_000, x), [compressed]),
            <<80, _/binary>> = Packed,
            sized([131, 68, 0, bare({22, pid(Peer, 1), no_pid(Peer)}), Packed])
        end}
    ]).

sized(Packet) -> [<<(iolist_size(Packet)):32>>, Packet].

frames_of_a_peer_without_fragments_do(Config) ->
    Link = fun(Peer) -> bare({1, pid(Peer, 1), no_pid(Peer)}) end,
    closes(Config, #{flags => flags() band bnot 16#800000}, [
        {header, fun(Peer) -> sized([131, 68, 0, Link(Peer)]) end},
        {fragment, fun(Peer) -> fragments(1, Link(Peer), 65_536) end},
        {no_version, fun(Peer) -> sized([112, Link(Peer)]) end},
        {payload_without_version, fun(Peer) ->
            sized([112, 131, bare({22, pid(Peer, 1), no_pid(Peer)}), bare(m)])
        end}
    ]).

cache_references_do(Config) ->
    closes(Config, [
        {one_reference, fun(Peer) ->
            %% a new entry: segment 0, index 7, "x"
            sized([131, 68, 1, 8, 7, 1, $x, bare({22, pid(Peer, 1), no_pid(Peer)}), 82, 0])
        end},
        {in_a_payload, fun(Peer) ->
            frame(Peer, {22, pid(Peer, 1), no_pid(Peer)}, {bytes, <<82, 0>>})
        end},
        {as_a_name, fun(Peer) ->
            frame(Peer, {bytes, [104, 4, 97, 6, bare(pid(Peer, 1)), 82, 0, 82, 1]}, m)
        end},
        {in_a_first_fragment, fun(_) ->
            sized([<<131, 69, 1:64, 2:64, 1>>, 8, 7, 1, $x, "bytes"])
        end}
    ]).

terms_cut_short_at_any_byte_do(Config) ->
    Whole = fun(Peer) ->
        {bare({22, pid(Peer, 1), no_pid(Peer)}), bare({[a], "b", <<"c">>, 1.0, #{d => e}, 1 bsl 70})}
    end,
    {Control, Payload} = Whole(#{
        name => name(), creation => 77, their_name => maps:get(name, c_node(Config)), their_creation => 1
    }),
    Length = byte_size(Control) + byte_size(Payload),
    closes(Config, [
        {Bytes, fun(Peer) ->
            {C, P} = Whole(Peer),
            sized([131, 68, 0, binary:part(<<C/binary, P/binary>>, 0, Bytes)])
        end}
     || Bytes <- lists:seq(1, Length - 1), Bytes < 12 orelse Bytes rem 5 =:= 0 orelse Bytes > Length - 20
    ]).

terms_that_nobody_can_have_made_do(Config) ->
    Latin = binary:copy(<<"x">>, 256),
    Terms = [
        {atom_of_256, [118, <<256:16>>, Latin]},
        {latin_atom_of_256, [100, <<256:16>>, Latin]},
        {atom_of_bad_utf8, [119, 2, 16#C3, 16#28]},
        {surrogate, [119, 3, 16#ED, 16#A0, 16#80]},
        {unknown_tag, [255]},
        {no_tag, [0]},
        {negative_list, [108, <<-1:32>>, 97, 1, 106]},
        {huge_tuple, [105, <<16#FFFFFFFF:32>>]},
        {huge_map, [116, <<16#80000000:32>>]},
        {huge_binary, [109, <<16#FFFFFFFF:32>>, "x"]},
        {huge_big, [111, <<16#FFFFFFFF:32>>, 0, 1]},
        {bits_in_a_byte, [77, <<1:32>>, 9, 255]},
        {bits_in_no_byte, [77, <<0:32>>, 3]},
        {not_a_number, [70, <<16#7FF8:16, 0:48>>]},
        {infinite, [70, <<16#7FF0:16, 0:48>>]},
        {float_in_no_digits, [99, binary:copy(<<"x">>, 31)]},
        {key_twice, [116, <<2:32>>, 97, 1, 97, 1, 97, 1, 97, 2]},
        {arity_256, [113, bare(m), bare(f), 98, <<256:32>>]},
        {arity_negative, [113, bare(m), bare(f), 98, <<-1:32>>]},
        {arity_no_number, [113, bare(m), bare(f), bare(two)]},
        {closure_of_no_size, [112, <<0:32>>]},
        {closure_too_long, [112, <<1000:32>>, 1, <<0:128>>, <<0:32>>, <<0:32>>]},
        {pid_at_a_number, [88, 97, 1, <<1:32, 0:32, 1:32>>]},
        {reference_of_no_words, [90, <<0:16>>, bare('n@h'), <<1:32>>]},
        {reference_of_six_words, [90, <<6:16>>, bare('n@h'), <<1:32>>, <<0:192>>]},
        {tail_missing, [108, <<1:32>>, 97, 1]}
    ],
    closes(Config, [
        {{payload, What}, signal(fun(Peer) -> {22, pid(Peer, 1), no_pid(Peer)} end, {bytes, iolist_to_binary(Bytes)})}
     || {What, Bytes} <- Terms
    ]),
    %% the same within a control message
    closes(Config, [
        {{control, What}, fun(Peer) ->
            Control = [104, 4, 97, 8, bare(pid(Peer, 1)), bare(no_pid(Peer)), Bytes],
            frame(Peer, {bytes, iolist_to_binary(Control)})
        end}
     || {What, Bytes} <- Terms
    ]).

%% Tuples of one tuple of ...
deep(Depth) -> {bytes, [binary:copy(<<104, 1>>, Depth), 106]}.

terms_too_deep_do(Config) ->
    closes(Config, [
        {Depth, signal(fun(Peer) -> {22, pid(Peer, 1), no_pid(Peer)} end, deep(Depth))}
     || Depth <- [10_001, 100_000, 5_000_000]
    ]),
    closes(Config, [
        {in_the_control_message, fun(Peer) ->
            {bytes, Deep} = deep(10_001),
            Control = [104, 4, 97, 8, bare(pid(Peer, 1)), bare(no_pid(Peer)), Deep],
            frame(Peer, {bytes, iolist_to_binary(Control)})
        end},
        {lists, signal(
            fun(Peer) -> {22, pid(Peer, 1), no_pid(Peer)} end,
            {bytes, [binary:copy(<<108, 1:32>>, 20_000), 106, binary:copy(<<106>>, 20_000)]}
        )}
    ]).

fragments_out_of_order_do(Config) ->
    Whole = fun(Peer) ->
        [bare({22, pid(Peer, 1), no_pid(Peer)}), bare(binary:copy(<<"x">>, 300))]
    end,
    Order = fun(Nths) ->
        fun(Peer) ->
            Frames = fragments(7, Whole(Peer), 100),
            [lists:nth(Nth, Frames) || Nth <- Nths]
        end
    end,
    closes(Config, [
        {second_missing, Order([1, 3])},
        {second_twice, Order([1, 2, 2])},
        {swapped, Order([1, 3, 2])},
        {no_first, Order([2])},
        {after_the_last, Order([1, 2, 3, 4, 4])},
        {id_in_use, Order([1, 1])},
        {id_in_use_later, Order([1, 2, 1])},
        {id_0, fun(_) -> sized([<<131, 69, 7:64, 0:64, 0>>, "x"]) end},
        {next_id_0, fun(Peer) ->
            [hd(fragments(7, Whole(Peer), 1_000_000)), sized([<<131, 70, 7:64, 0:64>>, "x"])]
        end},
        {ill_formed_when_whole, fun(_) -> fragments(7, binary:copy(<<255>>, 300), 100) end}
    ]).

%% Signals to pids and names that nobody has, each with one byte set to another
%% value. Which of them are malformed does not matter here.
whatever_one_byte_is_changed_nobody_else_is_harmed(Config) ->
    Connect = fun() -> dial(c_node(Config), name()) end,
    rand:seed(exsss, {20, 9, 1}),
    Last = lists:foldl(
        fun(_, Peer) ->
            {Control, Payload} = lists:nth(rand:uniform(30), operations(Peer)),
            Bytes = iolist_to_binary([
                131, 68, 0, bare(Control), case Payload of none -> []; {payload, P} -> bare(P) end
            ]),
            At = rand:uniform(byte_size(Bytes)) - 1,
            <<Before:At/binary, _, After/binary>> = Bytes,
            Changed = <<Before/binary, (rand:uniform(256) - 1), After/binary>>,
            case raw(Peer, sized(Changed)) of
                ok ->
                    %% and now and then time to see the end of it
                    case rand:uniform(4) =:= 1 andalso esp_test_dist:is_closed(Peer, 1) of
                        true -> Connect();
                        false -> Peer
                    end;
                {error, _} ->
                    _ = close(Peer),
                    Connect()
            end
        end,
        Connect(),
        lists:seq(1, 3_000)
    ),
    close(Last).

%%% Harmless signals

harmless(Config, Makers) ->
    Peer = dial(c_node(Config), name()),
    lists:foreach(
        fun({What, Make, Answers}) ->
            ok = raw(Peer, Make),
            {What, Answers} = {What, stays(Peer)}
        end,
        Makers(Peer)
    ),
    close(Peer).

signals_to_nobody_are_answered_or_dropped(Config) ->
    harmless(Config, fun(Peer) ->
        From = pid(Peer, 1),
        Ref = ref(Peer, [7, 7, 7]),
        lists:append([
            [
                {{send, To}, frame(Peer, {22, From, To}, m), []},
                {{exit2, To}, frame(Peer, {26, From, To}, kill), []},
                {{exit, To}, frame(Peer, {24, From, To}, kill), []},
                {{group_leader, To}, frame(Peer, {7, From, To}), []},
                {{demonitor, To}, frame(Peer, {20, From, To, Ref}), []},
                {{link, To}, frame(Peer, {1, From, To}), [{{24, To, From}, noproc}]},
                {{monitor, To}, frame(Peer, {19, From, To, Ref}), [{{28, To, From, Ref}, noproc}]},
                {{unlink, To}, frame(Peer, {35, 5, From, To}), [{36, 5, To, From}]}
            ]
         || To <- [no_pid(Peer), stale(Peer, 1), theirs(Peer, 16#FFFFFFF)]
        ]) ++
            [
                {name, frame(Peer, {6, From, '', nobody_of_that_name}, m), []},
                {alias, frame(Peer, {33, From, Ref}, m), []},
                {monitor_name, frame(Peer, {19, From, nobody, Ref}), [{{28, nobody, From, Ref}, noproc}]},
                {demonitor_name, frame(Peer, {20, From, nobody, Ref}), []}
            ]
    end).

signals_nobody_asked_for_are_dropped(Config) ->
    #{nodes := [{_, Alive} | _]} = coop:info(start_same(Config)),
    harmless(Config, fun(Peer) ->
        From = pid(Peer, 1),
        Ref = ref(Peer, [8, 8, 8]),
        lists:append([
            [
                {{exit_unlinked, To}, frame(Peer, {24, From, To}, kill), []},
                {{ack, To}, frame(Peer, {36, 9, From, To}), []},
                {{down, To}, frame(Peer, {28, From, To, Ref}, r), []},
                {{down_name, To}, frame(Peer, {28, some_name, To, Ref}, r), []},
                {{spawn_reply, To}, frame(Peer, {31, Ref, To, 3, From}), []},
                {{spawn_error, To}, frame(Peer, {31, Ref, To, 0, badopt}), []},
                {{unlink, To}, frame(Peer, {35, 5, From, To}), [{36, 5, To, From}]},
                {{unlink_old, To}, frame(Peer, {4, From, To}), []},
                {{normal, To}, frame(Peer, {26, From, To}, normal), []}
            ]
         || To <- [no_pid(Peer), Alive]
        ]) ++
            [
                {tick, <<0:32>>, []},
                %% an exit towards a former life of ours would cost the connection
                {former_life, frame(Peer, {1, pid_at(maps:get(name, Peer), 1, 76), no_pid(Peer)}), []},
                {message_of_a_third, frame(Peer, {22, pid_at('third@127.0.0.1', 1, 1), no_pid(Peer)}, m), []}
            ]
    end).

the_older_forms_are_taken(Config) ->
    Coop = start_same(Config),
    Peer = dial(c_node(Config), name()),
    From = pid(Peer, 1),
    ok = send(Peer, {2, '', coop:head(Coop)}, one),
    ok = send(Peer, {22, From, coop:head(Coop)}, two),
    ok = send(Peer, {12, '', coop:head(Coop), {0, 1, 1, From, 0}}, three),
    [one, two, three] = esp_test_lib:take(3),
    %% ended by op 8, and told in the form negotiated
    process_flag(trap_exit, true),
    Ref = ref(Peer, [1, 2, 3]),
    Head = coop:head(Coop),
    ok = send(Peer, {19, From, Head, Ref}),
    ok = send(Peer, {1, From, Head}),
    ok = send(Peer, {8, From, Head, enough}),
    {{24, Head, From}, enough} = next(Peer),
    {{28, Head, From, Ref}, enough} = next(Peer),
    [{'EXIT', Head, enough}] = esp_test_lib:take(1),
    close(Peer).

depth_within_the_limit_is_taken(Config) ->
    Coop = start_same(Config),
    Peer = dial(c_node(Config), name()),
    %% a list's length is no depth
    Long = lists:seq(1, 100_000),
    ok = send(Peer, {22, pid(Peer, 1), coop:head(Coop)}, Long),
    [Long] = esp_test_lib:take(1),
    ok = send(Peer, {22, pid(Peer, 1), coop:head(Coop)}, deep(9_000)),
    [Deep] = esp_test_lib:take(1),
    9_000 = depth(Deep, 0),
    close(Peer).

depth({Inner}, N) -> depth(Inner, N + 1);
depth([], N) -> N.

bad_spawn_options_are_badopt(Config) ->
    Peer = dial(c_node(Config), name()),
    From = pid(Peer, 1),
    lists:foreach(
        fun({Nth, Options}) ->
            Ref = ref(Peer, [Nth, 0, 0]),
            ok = send(Peer, {29, Ref, From, From, {erlang, node, 0}, Options}, []),
            {31, Ref, From, 0, badopt} = next(Peer)
        end,
        [{1, [no_such_option]}, {2, [{link, x}]}, {3, [{priority}]}, {4, [1]}]
    ),
    [] = stays(Peer),
    close(Peer).

nobody_ends_the_monitor_of_another(Config) ->
    Coop = start_same(Config),
    Head = coop:head(Coop),
    unlink(Head),
    Ref = monitor(process, Head),
    Peer = dial(c_node(Config), name()),
    ok = send(Peer, {20, pid(Peer, 1), Head, Ref}),
    ok = send(Peer, {35, 1, pid(Peer, 1), Head}),
    [{36, 1, Head, _}] = stays(Peer),
    exit(Head, done),
    done = esp_test_lib:down(Ref),
    close(Peer).

%% A C-node's task calls a function on us; we say that the worker has ended
%% before we said that it began.
a_spawn_that_ends_before_its_reply_is_an_error_to_the_caller(Config) ->
    Listener = esp_test_dist:listen(name()),
    #{name := Name, creation := Creation} = Listener,
    Template = coop_flow:pipeline([coop:native(talk, talks, talk, #{})]),
    {ok, Coop} = coop:start_link(Template, #{
        node => esp_test_dist:name(c_node(Config)), receiver => self(), tag => said
    }),
    ok = coop:relay_data(Coop, {rpc, Name, fun erlang:node/0, []}),
    Peer = esp_test_dist:welcome(Listener, esp_test_dist:accept(Listener)),
    %% first it asks who we are, and is answered
    {19, _, net_kernel, _} = next(Peer),
    {{6, _, '', net_kernel}, {'$gen_call', {Caller, Tag}, {is_auth, _}}} = next(Peer),
    ok = send(Peer, {22, pid_at(Name, 3, Creation), Caller}, {Tag, yes}),
    {20, _, net_kernel, _} = next(Peer),
    {{29, Ref, From, _Leader, {erpc, execute_call, 4}, _}, [_, erlang, apply, _]} = next(Peer),
    ok = send(Peer, {28, pid_at(Name, 3, Creation), From, Ref}, because),
    ok = send(Peer, {31, Ref, From, 2, pid_at(Name, 3, Creation)}),
    receive
        {said, {error, _, _}} -> ok
    after ?LIMIT -> ct:fail({waited_in_vain_for, outcome})
    end,
    close(Peer),
    esp_test_dist:unlisten(Listener),
    coop:stop(Coop).

%% A co-op that passes on what it gets, to this process.
start_same(Config) ->
    Template = coop_flow:pipeline([coop:native(same, sums, same, #{})]),
    {ok, Coop} = coop:start_link(Template, #{
        node => esp_test_dist:name(c_node(Config)), receiver => self()
    }),
    Coop.

%%% Oversize signals

binary_of(Size) -> binary:copy(<<"0123456789abcdef">>, Size div 16).

%% What a message of a binary takes beside the binary.
overhead(Peer, Head) ->
    byte_size(bare({22, pid(Peer, 1), Head})) + byte_size(bare({msg, <<>>})).

a_signal_at_the_cap_arrives(Config) ->
    Head = coop:head(start_same(Config)),
    Peer = dial(c_node(Config), name()),
    Most = binary:copy(<<"x">>, ?MIB - overhead(Peer, Head)),
    ok = send(Peer, {22, pid(Peer, 1), Head}, {msg, Most}),
    [{msg, Most}] = esp_test_lib:take(1),
    Bytes = [bare({22, pid(Peer, 1), Head}), bare({msg, Most})],
    ?MIB = iolist_size(Bytes),
    ok = raw(Peer, fragments(1, Bytes, 65_536)),
    [{msg, Most}] = esp_test_lib:take(1),
    close(Peer).

a_signal_over_the_cap_is_dropped_and_the_next_arrives(Config) ->
    Head = coop:head(start_same(Config)),
    Peer = dial(c_node(Config), name()),
    Above = [
        binary:copy(<<"x">>, ?MIB - overhead(Peer, Head) + 1),
        binary_of(?MIB),
        binary_of(?MIB + 8_192),
        binary_of(20 * ?MIB)
    ],
    lists:foreach(
        fun({N, Binary}) ->
            ok = send(Peer, {22, pid(Peer, 1), Head}, {msg, Binary}),
            ok = send(Peer, {22, pid(Peer, 1), Head}, {after_it, N}),
            [{after_it, N}] = esp_test_lib:take(1)
        end,
        lists:zip(lists:seq(1, length(Above)), Above)
    ),
    [] = stays(Peer),
    close(Peer).

a_signal_in_fragments_over_the_cap_is_dropped_and_the_next_arrives(Config) ->
    Head = coop:head(start_same(Config)),
    Peer = dial(c_node(Config), name()),
    Send = {22, pid(Peer, 1), Head},
    Bytes = fun(Binary) -> [bare(Send), bare({msg, Binary})] end,
    lists:foreach(
        fun({Sequence, Size}) ->
            ok = raw(Peer, fragments(Sequence, Bytes(binary_of(Size)), 65_536)),
            ok = send(Peer, Send, {after_it, Sequence}),
            [{after_it, Sequence}] = esp_test_lib:take(1)
        end,
        [{1, ?MIB}, {2, 3 * ?MIB}, {3, 20 * ?MIB}]
    ),
    %% another signal between its fragments is taken as ever
    Large = fragments(4, Bytes(binary_of(3 * ?MIB)), 65_536),
    lists:foreach(
        fun({N, Fragment}) ->
            ok = raw(Peer, Fragment),
            ok = send(Peer, Send, {between, N}),
            [{between, N}] = esp_test_lib:take(1)
        end,
        lists:zip(lists:seq(1, length(Large)), Large)
    ),
    %% one fragment that is larger than a whole signal may be
    ok = raw(Peer, fragments(5, Bytes(binary_of(5 * ?MIB)), 2 * ?MIB)),
    %% the number is free again
    ok = raw(Peer, fragments(2, Bytes(<<"small">>), 16)),
    [{msg, <<"small">>}] = esp_test_lib:take(1),
    close(Peer).

incomplete_sequences_have_one_cap_together(Config) ->
    Head = coop:head(start_same(Config)),
    Peer = dial(c_node(Config), name()),
    Send = {22, pid(Peer, 1), Head},
    Signals = [
        fragments(N, [bare(Send), bare({msg, N, binary_of(400_000)})], 200_000)
     || N <- [1, 2, 3, 4]
    ],
    %% the first two of each, 1.6 MB: the third and the fourth are too much
    ok = raw(Peer, [lists:sublist(Frames, 2) || Frames <- Signals]),
    ok = raw(Peer, [lists:nthtail(2, Frames) || Frames <- Signals]),
    [{msg, 1, _}, {msg, 2, _}] = esp_test_lib:take(2),
    ok = send(Peer, Send, last),
    [last] = esp_test_lib:take(1),
    close(Peer).

one_sequence_too_many_is_dropped_and_the_others_arrive(Config) ->
    Head = coop:head(start_same(Config)),
    Peer = dial(c_node(Config), name()),
    Send = {22, pid(Peer, 1), Head},
    Signals = [
        fragments(N, [bare(Send), bare({msg, N, <<"0123456789">>})], 60)
     || N <- lists:seq(1, 1_025)
    ],
    ok = raw(Peer, [hd(Frames) || Frames <- Signals]),
    ok = raw(Peer, [tl(Frames) || Frames <- Signals]),
    ok = send(Peer, Send, last),
    Sent = [{msg, N, <<"0123456789">>} || N <- lists:seq(1, 1_024)] ++ [last],
    Sent = esp_test_lib:take(1_025),
    close(Peer).

%% It says 100 MB, or 4 GiB, and sends little of it.
a_frame_that_never_ends_costs_its_sender_only(Config) ->
    Before = esp_test_dist:memory(c_node(Config)),
    Peers = [
        begin
            Peer = dial(c_node(Config), name()),
            ok = raw(Peer, [<<Length:32, 131, 68, 0>>, binary_of(65_536)]),
            Peer
        end
     || _ <- lists:seq(1, 10), Length <- [100_000_000, 16#FFFFFFFF]
    ],
    undisturbed(Config),
    Grown = esp_test_dist:memory(c_node(Config)) - Before,
    Grown < 64 * ?MIB orelse ct:fail({grown, Grown}),
    lists:foreach(fun esp_test_dist:close/1, Peers).

%%% Floods

answers_to_a_peer_that_never_reads_are_bounded(Config) ->
    Peer = dial(c_node(Config), name()),
    Before = esp_test_dist:memory(c_node(Config)),
    Link = frame(Peer, {1, pid(Peer, 1), no_pid(Peer)}),
    Many = iolist_to_binary(lists:duplicate(10_000, Link)),
    %% each is answered `noproc': 8 MiB of answers, and it is lost
    ok = flood(Peer, Many, 100),
    Grown = esp_test_dist:memory(c_node(Config)) - Before,
    Grown < 64 * ?MIB orelse ct:fail({grown, Grown}),
    undisturbed(Config).

%% Until we are thrown out.
flood(_Peer, _Bytes, 0) ->
    ct:fail(nobody_minds);
flood(Peer, Bytes, Times) ->
    case raw(Peer, Bytes) of
        ok -> flood(Peer, Bytes, Times - 1);
        {error, _} -> close(Peer)
    end.

data_for_a_peer_that_never_reads_wait_at_their_coop(Config) ->
    Peer = dial(c_node(Config), name()),
    Template = coop_flow:pipeline([coop:native(same, sums, same, #{})]),
    Receiver = pid(Peer, 1),
    {ok, Coop} = coop:start_link(Template, #{
        node => esp_test_dist:name(c_node(Config)), receiver => Receiver
    }),
    #{nodes := [{same, Node}]} = coop:info(Coop),
    %% the node asks for a meter, and there is none
    ok = no_meter(Peer),
    Before = esp_test_dist:memory(c_node(Config)),
    Datum = binary_of(10_000),
    Count = 10_000,
    Taken = counters:new(1, []),
    {Sender, Ref} = spawn_monitor(fun() ->
        lists:foreach(
            fun(N) ->
                ok = coop:relay_data(Coop, {N, Datum}),
                counters:put(Taken, 1, N)
            end,
            lists:seq(1, Count)
        )
    end),
    %% the sender gets no further, the others do
    eventually(sender_waits, fun() ->
        Then = counters:get(Taken, 1),
        ok = undisturbed(Config),
        Then > 0 andalso Then =:= counters:get(Taken, 1)
    end),
    Grown = esp_test_dist:memory(c_node(Config)) - Before,
    Grown < 64 * ?MIB orelse ct:fail({grown, Grown}),
    true = is_process_alive(Sender),
    %% it reads after all: nothing was lost, and everything is in order
    lists:foreach(
        fun(N) -> {{22, Node, Receiver}, {N, Datum}} = next_datum(Peer) end,
        lists:seq(1, Count)
    ),
    normal = esp_test_lib:down(Ref),
    ok = coop:stop(Coop),
    close(Peer).

%% A question to the meter that is not there may come in between.
next_datum(Peer) ->
    case next(Peer) of
        {{6, _, '', coop_meter}, _} -> next_datum(Peer);
        Signal -> Signal
    end.

no_meter(Peer) ->
    case next(Peer) of
        {19, From, coop_meter, Ref} -> send(Peer, {28, coop_meter, From, Ref}, noproc);
        _ -> no_meter(Peer)
    end.

%% Plain messages have no credit: what is too much is shed.
data_for_a_coop_that_does_not_take_them_are_bounded(Config) ->
    Template = coop_flow:pipeline([coop:native(spin, spins, spin, #{})]),
    {ok, Coop} = coop:start_link(Template, #{
        node => esp_test_dist:name(c_node(Config)), max_queue_bytes => 8 * ?MIB, window => 1
    }),
    Peer = dial(c_node(Config), name()),
    Before = esp_test_dist:memory(c_node(Config)),
    ok = sys:suspend(Coop),
    Message = frame(Peer, {22, pid(Peer, 1), coop:head(Coop)}, binary_of(50_000)),
    lists:foreach(fun(_) -> ok = raw(Peer, Message) end, lists:seq(1, 4_000)),
    [] = stays(Peer),
    Grown = esp_test_dist:memory(c_node(Config)) - Before,
    Grown < 64 * ?MIB orelse ct:fail({grown, Grown}),
    undisturbed(Config),
    close(Peer),
    unlink(coop:head(Coop)),
    Ref = monitor(process, coop:head(Coop)),
    exit(coop:head(Coop), kill),
    killed = esp_test_lib:down(Ref),
    ok.

thousands_of_links_and_monitors_delay_nobody(Config) ->
    Coop = start_same(Config),
    Head = coop:head(Coop),
    unlink(Head),
    Peer = dial(c_node(Config), name()),
    Count = 20_000,
    Ids = lists:seq(1, Count),
    Refs = [ref(Peer, [N, 1, 1]) || N <- Ids],
    ok = raw(Peer, [
        [frame(Peer, {1, pid(Peer, N), Head}), frame(Peer, {19, pid(Peer, N), Head, Ref})]
     || {N, Ref} <- lists:zip(Ids, Refs)
    ]),
    Started = erlang:monotonic_time(millisecond),
    undisturbed(Config),
    [] = stays(Peer),
    Took = erlang:monotonic_time(millisecond) - Started,
    Took < 5_000 orelse ct:fail({took, Took}),
    exit(Head, enough),
    Answers = [next(Peer) || _ <- lists:seq(1, 2 * Count)],
    {Links, Monitors} = lists:split(Count, Answers),
    [] = [X || X <- Links, {{24, _, _}, enough} <- [X]] -- Links,
    Count = length(lists:usort([To || {{24, _, To}, enough} <- Links])),
    Refs = lists:sort([Ref || {{28, _, _, Ref}, enough} <- Monitors]),
    close(Peer).

connections_that_come_and_go_leave_nothing(Config) ->
    CNode = c_node(Config),
    #{os_pid := OsPid} = CNode,
    Coop = start_same(Config),
    Open = fun() ->
        {ok, Files} = file:list_dir("/proc/" ++ integer_to_list(OsPid) ++ "/fd"),
        length(Files)
    end,
    Files = Open(),
    Name = name(),
    lists:foreach(
        fun(N) ->
            Peer = dial(CNode, Name, #{creation => N}),
            ok = send(Peer, {19, pid(Peer, N), coop:head(Coop), ref(Peer, [N])}),
            ok = send(Peer, {22, pid(Peer, N), coop:head(Coop)}, {from, N}),
            [] = stays(Peer),
            [{from, N}] = esp_test_lib:take(1),
            close(Peer)
        end,
        lists:seq(1, 200)
    ),
    eventually(sockets_closed, fun() -> Open() =< Files orelse {Open(), Files} end),
    %% nobody of the 200 still watches it: this VM alone does, by the link
    eventually(forgotten, fun() ->
        {monitored_by, By} =
            erpc:call(maps:get(name, CNode), erlang, process_info, [coop:head(Coop), monitored_by]),
        [P || P <- By, node(P) =:= Name] =:= []
    end).

%%% Ticks

a_silent_peer_is_dropped_in_time(Config) ->
    Peer = dial(c_node(Config), name()),
    Started = erlang:monotonic_time(millisecond),
    ok = await_closed(Peer),
    Took = erlang:monotonic_time(millisecond) - Started,
    {true, Took} = {Took >= 2_900 andalso Took < 7_000, Took}.

a_peer_that_ticks_is_kept(Config) ->
    Peer = dial(c_node(Config), name()),
    %% for longer than the silent one is given; each waits for a tick of theirs
    Until = erlang:monotonic_time(millisecond) + 6_500,
    ok = tick_until(Peer, Until),
    [] = stays(Peer),
    close(Peer).

tick_until(Peer, Until) ->
    case erlang:monotonic_time(millisecond) > Until of
        true ->
            ok;
        false ->
            tick = next(Peer, tick),
            ok = tick(Peer),
            tick_until(Peer, Until)
    end.

a_tick_is_answered_while_every_worker_spins(Config) ->
    Peer = dial(c_node(Config), name()),
    Template = coop_flow:pipeline([coop:native(spin, spins, spin, #{})]),
    Coops = [
        begin
            {ok, Coop} = coop:start_link(Template, #{
                node => esp_test_dist:name(c_node(Config)), receiver => self(), tag => {spun, N}
            }),
            Coop
        end
     || N <- [1, 2, 3, 4]
    ],
    %% on both workers for as long as one may before another thread takes over
    [ok = coop:relay_data(Coop, {spin, self(), 900}) || Coop <- Coops],
    receive
        {spinning, _} -> ok
    after ?LIMIT -> ct:fail({waited_in_vain_for, spinning})
    end,
    lists:foreach(
        fun(_) ->
            Sent = erlang:monotonic_time(millisecond),
            ok = tick(Peer),
            tick = next(Peer, tick),
            Took = erlang:monotonic_time(millisecond) - Sent,
            %% at once, or, right behind another, with the next quarter
            Took < 1_400 orelse ct:fail({took, Took})
        end,
        lists:seq(1, 2)
    ),
    [
        receive
            {{spun, N}, _} -> ok
        after ?LIMIT -> ct:fail({waited_in_vain_for, spun, N})
        end
     || N <- [1, 2, 3, 4]
    ],
    [ok = coop:stop(Coop) || Coop <- Coops],
    close(Peer).
