%% Where the seq_trace events of C-nodes' processes come to a VM that owns them. A
%% system tracer is its VM's own affair, and cannot be addressed from elsewhere; so
%% each event, {seq_trace, Label, Info} or with a timestamp, is given to it here, as
%% the emulator would. Events for which there is no tracer go nowhere.
-module(esp_seq_trace).

-behaviour(gen_server).

-export([start_link/0]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, []}.
init([]) ->
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {reply, {error, term()}, []}.
handle_call(Request, _From, []) ->
    {reply, {error, {unknown_request, Request}}, []}.

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast(Message, []) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, []}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info(Event, []) when
    element(1, Event) =:= seq_trace, tuple_size(Event) =:= 3 orelse tuple_size(Event) =:= 4
->
    ok = give(seq_trace:get_system_tracer(), Event),
    {noreply, []};
handle_info(Message, []) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, []}.

%% The type that seq_trace:get_system_tracer/0 has in its specification forgets
%% modules, which set_system_tracer/1 takes.
-dialyzer([{no_match, give/2}, {no_unused, options/1}]).

give(false, _Event) ->
    ok;
give(Pid, Event) when is_pid(Pid) ->
    Pid ! Event,
    ok;
give(Port, Event) when is_port(Port) ->
    %% as a tracer's port gets them; it may just have been closed, and one that
    %% is busy is not waited for
    try erlang:port_command(Port, term_to_binary(Event), [nosuspend]) of
        _IsTaken -> ok
    catch
        _:_ -> ok
    end;
give({Module, State}, Event) ->
    %% a tracer module: erl_tracer(3); its failure is its own, as in the emulator
    Label = element(2, Event),
    _ =
        try
            trace =:= Module:enabled(seq_trace, State, Label) andalso
                Module:trace(seq_trace, State, Label, element(3, Event), options(Event))
        catch
            _:_ -> ok
        end,
    ok.

options({seq_trace, _Label, _Info}) -> #{};
options({seq_trace, _Label, _Info, Timestamp}) -> #{timestamp => Timestamp}.
