%% A process of this VM that stands for a co-op where a strictly local one is
%% wanted: supervisor:count_children/1, is_process_alive/1, process_info/1,
%% observer's tree. It is the co-op's parent, so their ends are one, and passes
%% on all that it gets: to its head what is control, and what is credited,
%% as it is; and what is a plain message as a datum of its own, for which it has
%% credit as a VM that relays has. Whoever asks is answered by the head itself.
%%
%% What waits here waits in a queue, never in a receive, and everything that was
%% sent behind it and keeps order with it, a flush for one, waits there too.
%% Control does not.
%%
%% It does not trap exits, for the reason that a head on the VM does not.
-module(coop_stand_in).

-export([start_link/2]).
-export([info/1]).
-export([init/4]).
-export([loop/1]).

%% The number of the one edge to the head.
-define(EDGE, 1).

-define(IS_UNITS(Units), is_integer(Units), Units >= 0).

-record(stand_in, {
    head :: pid(),
    monitor :: reference(),
    parent :: reference(),
    name :: atom() | undefined,
    %% not there until the head has answered; all in bytes, as of coop_credit
    edge :: coop_edges:edge() | undefined,
    window = 0 :: non_neg_integer(),
    credit = 0 :: non_neg_integer(),
    %% {datum, Cost, Datum}, or what goes on as it is; with its token
    queue = queue:new() :: queue:queue(
        {{datum, pos_integer(), term()} | {as_is, term()}, coop_process:env()}
    ),
    data = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    max_queue :: pos_integer(),
    max_queue_bytes :: pos_integer(),
    dead_letter :: coop_dead_letter:destination(),
    dropped = 0 :: non_neg_integer(),
    dead_lettered = 0 :: non_neg_integer(),
    logged_at :: integer() | undefined
}).

%% @doc Starts a co-op and the process that stands for it, whose pid this is.
-spec start_link(coop_flow:template(), map()) -> {ok, pid()} | {error, term()}.
start_link(Template, Options) ->
    case {whereis(coop_names), esp_config:coop(Options)} of
        {undefined, _} -> {error, {not_started, erlangsp}};
        {_, {ok, Checked}} -> start(self(), {Template, Options}, Checked);
        {_, {error, _} = Error} -> Error
    end.

%% Like the start of a co-op with a head here, a start waits for what is still
%% ending of the last one.
start(Parent, Origin, Checked) ->
    Key = {?MODULE, Parent, erlang:phash2(Origin)},
    proc_lib:start_link(?MODULE, init, [Parent, Key, Origin, Checked]).

%% @doc What waits and what was lost at the stand-in itself.
-spec info(pid()) -> map().
info(StandIn) ->
    coop_process:ask(StandIn, stand_in, 5_000).

-spec init(pid(), term(), {coop_flow:template(), map()}, esp_config:coop_options()) ->
    ok | no_return().
init(Parent, Key, Origin, Options = #{name := Name, start_timeout := Timeout}) ->
    case coop_head:register_as(Name) of
        ok ->
            ok = coop_names:former(Key, Timeout),
            {Template, Given} = Origin,
            case coop_start:start_link(Template, maps:without([name, stand_in], Given)) of
                {ok, Head, _} -> run(Head, Parent, Key, Origin, Options);
                {error, _} = Error -> refuse(Parent, Name, Error)
            end;
        {error, Taken} ->
            refuse(Parent, undefined, {error, {already_started, Taken}})
    end.

%% Nothing is left of it when the caller hears of it, not even an exit signal.
refuse(Parent, Name, Error) ->
    Name =:= undefined orelse unregister(Name),
    unlink(Parent),
    proc_lib:init_ack(Parent, Error).

run(Head, Parent, Key, Origin, Options) ->
    Monitor = monitor(process, Head),
    #{switches := Switches} = coop_process:ask(Head, info, infinity),
    %% the head is known as a co-op too, to who asks for it
    ok = coop_names:add(Head, undefined, Origin),
    ok = coop_names:add_stand_in(self(), Head, Origin, Key, [Head | Switches]),
    Head ! {'$coop', attach, self(), ?EDGE, relay},
    StandIn = #stand_in{
        head = Head,
        monitor = Monitor,
        parent = monitor(process, Parent),
        name = maps:get(name, Options),
        max_queue = maps:get(max_queue, Options),
        max_queue_bytes = maps:get(max_queue_bytes, Options),
        dead_letter = maps:get(dead_letter, Options)
    },
    proc_lib:init_ack(Parent, {ok, self()}),
    loop(StandIn).

%% By its full name, since no system message will ever have it change to a new
%% version of this module: those are the head's.
-spec loop(#stand_in{}) -> no_return().
loop(StandIn) ->
    receive
        Message -> ?MODULE:loop(handle(Message, StandIn))
    end.

handle({'DOWN', Ref, process, _, Reason}, #stand_in{monitor = Head, parent = Parent}) when
    Ref =:= Head; Ref =:= Parent
->
    end_as(Reason);
handle({'$coop', attached, ?EDGE, Edge, Units, _Rule}, S = #stand_in{edge = undefined}) when
    ?IS_UNITS(Units)
->
    send_queue(S#stand_in{edge = Edge, window = Units, credit = Units});
handle({'$coop', credit, ?EDGE, Units}, S = #stand_in{credit = Credit, window = Window}) when
    ?IS_UNITS(Units)
->
    send_queue(S#stand_in{credit = min(Window, Credit + Units)});
handle({'$coop', overload, ?EDGE, _IsOver}, S) ->
    %% for those who can be refused
    S;
handle({'$coop', {Pid, _Tag} = From, head}, S) when is_pid(Pid) ->
    %% who asks from another VM is to use this one, or order would be lost
    gen:reply(From, self()),
    S;
handle({'$coop', {Pid, _Tag} = From, stand_in}, S) when is_pid(Pid) ->
    gen:reply(From, describe(S)),
    S;
handle(Message, S = #stand_in{head = Head}) ->
    Env = coop_token:keep([], coop_token:take()),
    case kind(Message) of
        control ->
            coop_token:send(Head, Message, Env),
            S;
        in_order ->
            in_order(Message, Env, S);
        datum ->
            datum(Message, Env, S)
    end.

%% As a head tells them apart.
kind({'$coop', flush, _}) -> in_order;
kind({'$coop', data, _, _, _, _}) -> in_order;
kind({'$coop', batch, _, _, _, _}) -> in_order;
kind(Message) when element(1, Message) =:= '$coop' -> control;
kind({system, _From, _Request}) -> control;
kind({'EXIT', Pid, _Reason}) when is_pid(Pid) -> control;
kind({get_modules, From}) when is_pid(From) -> control;
kind({Pid, {Pid, _Tag}, get_modules}) when is_pid(Pid) -> control;
kind(_Message) -> datum.

%% It has credit of its sender's, which bounds how much of it can wait here.
in_order(Message, Env, S = #stand_in{queue = Queue, head = Head}) ->
    case queue:is_empty(Queue) of
        true ->
            coop_token:send(Head, Message, Env),
            S;
        false ->
            S#stand_in{queue = queue:in({{as_is, Message}, Env}, Queue)}
    end.

%% Nothing but these limits bounds what comes by `!'.
datum(Datum, _Env, S = #stand_in{data = N, max_queue = Max}) when N >= Max ->
    lose(Datum, overloaded, S);
datum(Datum, Env, S = #stand_in{bytes = Bytes, max_queue_bytes = Max, queue = Queue, data = N}) ->
    case coop_credit:cost(Datum) of
        {ok, Cost} when Bytes > 0, Bytes + Cost > Max ->
            lose(Datum, overloaded, S);
        {ok, Cost} ->
            send_queue(S#stand_in{
                queue = queue:in({{datum, Cost, Datum}, Env}, Queue),
                data = N + 1,
                bytes = Bytes + Cost
            });
        {error, Reason} ->
            lose(Datum, Reason, S)
    end.

%% In order, up to the first that has no credit.
send_queue(S = #stand_in{edge = undefined}) ->
    S;
send_queue(S = #stand_in{queue = Queue, head = Head, edge = Edge, credit = Credit}) ->
    case queue:peek(Queue) of
        {value, {{as_is, Message}, Env}} ->
            coop_token:send(Head, Message, Env),
            send_queue(S#stand_in{queue = queue:drop(Queue)});
        {value, {{datum, Cost, Datum}, Env}} ->
            case min(Cost, coop_credit:most(S#stand_in.window)) of
                Charge when Charge =< Credit ->
                    coop_token:send(Head, {'$coop', data, Edge, Charge, [], Datum}, Env),
                    #stand_in{data = N, bytes = Bytes} = S,
                    send_queue(S#stand_in{
                        queue = queue:drop(Queue),
                        credit = Credit - Charge,
                        data = N - 1,
                        bytes = Bytes - Cost
                    });
                _ ->
                    S
            end;
        empty ->
            S
    end.

%% One line a second at most, however many they are.
lose(Datum, Reason, S = #stand_in{head = Head, dropped = Dropped, dead_lettered = Sent}) ->
    Now = erlang:monotonic_time(second),
    Now =:= S#stand_in.logged_at orelse
        logger:warning(
            "co-op stand-in ~p of ~p drops data (~b so far): ~tp",
            [self(), Head, Dropped + 1, Reason]
        ),
    IsSent = coop_dead_letter:send(S#stand_in.dead_letter, Head, stand_in, Datum, Reason),
    S#stand_in{
        dropped = Dropped + 1,
        dead_lettered = if IsSent -> Sent + 1; true -> Sent end,
        logged_at = Now
    }.

describe(S = #stand_in{name = Name, data = N, dropped = Dropped, dead_lettered = Sent}) ->
    #{
        pid => self(),
        head => S#stand_in.head,
        registered => Name,
        queue => N,
        dropped => Dropped,
        dead_lettered => Sent
    }.

%% As by the signal of the link, which may come second: the crash report is
%% that of the process whose end this is. One that had ended before it was
%% watched has ended with `normal', or the link would have told.
-spec end_as(term()) -> no_return().
end_as(noproc) ->
    exit(normal);
end_as(Reason) ->
    Reason =:= normal orelse Reason =:= kill orelse exit(self(), Reason),
    exit(Reason).
